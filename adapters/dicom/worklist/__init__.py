"""What modalities are to do, and what they have done: modality worklist and MPPS (PS3.4 annexes K and F)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.dicom.worklist.options import DESTINATION, SOURCE
from engine.message import DICOM, HL7V2

if TYPE_CHECKING:
    from adapters.dicom.worklist.destination import StepDestination
    from adapters.dicom.worklist.source import StepSource
    from engine.contracts import Context
    from engine.options import Settings


class DicomWorklistAdapter:
    """engine.contracts.Adapter"""

    name = "dicom_worklist"
    content_types = (HL7V2, DICOM)
    source_options = SOURCE
    destination_options = DESTINATION

    def source(self, options: Settings, context: Context) -> StepSource:
        from adapters.dicom.worklist.source import StepSource

        return StepSource(options, context)

    def destination(self, options: Settings, context: Context) -> StepDestination:
        from adapters.dicom.worklist.destination import StepDestination

        return StepDestination(options, context)


adapter = DicomWorklistAdapter()
