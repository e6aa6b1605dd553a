"""DICOM: what modalities send, and what they ask for.

The parts that need pydicom are loaded when an adapter is used, so that a site without imaging starts as fast as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.dicom.archive import options as archive
from adapters.dicom.options import SOURCE
from engine.errors import ConfigError
from engine.message import DICOM, DICOM_JSON

if TYPE_CHECKING:
    from adapters.dicom.archive.destination import ArchiveDestination
    from adapters.dicom.archive.source import StudySource
    from adapters.dicom.source import DicomSource
    from engine.contracts import Context, Destination
    from engine.options import Settings


class DicomAdapter:
    """engine.contracts.Adapter"""

    name = "dicom"
    content_types = (DICOM,)
    source_options = SOURCE
    destination_options = None
    reused_key = "flag"
    """The natural choice of `duplicates.reused_key`: an instance that comes again with another data set is kept and flagged."""

    def source(self, options: Settings, context: Context) -> DicomSource:
        from adapters.dicom.source import DicomSource

        return DicomSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        raise ConfigError("dicom cannot be a destination")


class ArchiveAdapter:
    """engine.contracts.Adapter"""

    name = "dicom_archive"
    content_types = (DICOM, DICOM_JSON)
    source_options = archive.SOURCE
    destination_options = archive.DESTINATION

    def source(self, options: Settings, context: Context) -> StudySource:
        from adapters.dicom.archive.source import StudySource

        return StudySource(options, context)

    def destination(self, options: Settings, context: Context) -> ArchiveDestination:
        from adapters.dicom.archive.destination import ArchiveDestination

        return ArchiveDestination(options, context)


adapter = DicomAdapter()
archive_adapter = ArchiveAdapter()
