"""DICOM: what modalities send, and what they ask for.

The parts that need pydicom are loaded when an adapter is used, so that a site without imaging starts as fast as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.dicom.archive import options as archive
from adapters.dicom.forward.options import STORE, STOW
from adapters.dicom.options import SOURCE
from adapters.dicom.web.options import SOURCE as WEB_SOURCE
from engine.message import DICOM, DICOM_JSON

if TYPE_CHECKING:
    from adapters.dicom.archive.destination import ArchiveDestination
    from adapters.dicom.archive.source import StudySource
    from adapters.dicom.source import DicomSource
    from adapters.dicom.web.source import DicomwebSource
    from engine.contracts import Context, Destination
    from engine.message import Envelope, Judgement
    from engine.options import Settings


class DicomAdapter:
    """engine.contracts.Adapter"""

    name = "dicom"
    content_types = (DICOM,)
    source_options = SOURCE
    destination_options = STORE
    reused_key = "flag"
    """The natural choice of `duplicates.reused_key`: an instance that comes again with another data set is kept and flagged."""

    def source(self, options: Settings, context: Context) -> DicomSource:
        from adapters.dicom.source import DicomSource

        return DicomSource(options, context)

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        from adapters.dicom.rehearsal import rehearse

        return rehearse(body, peer)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.dicom.forward.store_scu import StoreDestination

        return StoreDestination(options, context)


class DicomwebAdapter:
    """engine.contracts.Adapter: ``dicomweb``"""

    name = "dicomweb"
    content_types = (DICOM,)
    source_options = WEB_SOURCE
    destination_options = STOW
    reused_key = "flag"

    def source(self, options: Settings, context: Context) -> DicomwebSource:
        from adapters.dicom.web.source import DicomwebSource

        return DicomwebSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.dicom.forward.stow import StowDestination

        return StowDestination(options, context)


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
dicomweb_adapter = DicomwebAdapter()
archive_adapter = ArchiveAdapter()
