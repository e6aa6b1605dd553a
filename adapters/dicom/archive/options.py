"""What a channel file may say under ``dicom_archive``."""

from __future__ import annotations

from typing import Final

from engine.options import DURATION, SIZE, TEXT, Option, Settings, Spec

_FOLDER: Final = Option("folder", TEXT, "folder of the archive, relative to the site's data folder; there may be several", default="dicom")

DESTINATION: Final = Spec(
    "dicom_archive destination",
    "Keeps instances and indexes them by patient, study, series and instance, so that they can be asked for (C-FIND, C-MOVE, C-GET, "
    "DICOMweb). The same instance again changes nothing; one with the same UID and other content is kept beside the first, shown instead "
    "of it, counted, logged and audited.",
    [
        _FOLDER,
        Option("keep", DURATION, "how long a study is kept after its last instance has come", default="30d"),
        Option("most", SIZE, "size of all instances over which the oldest studies go (0: no limit)", default="0"),
    ],
)


def _in_order(settings: Settings) -> str:
    return "" if settings.settle <= min(settings.quiet, settings.overdue) else "settle must not be longer than quiet and overdue"


SOURCE: Final = Spec(
    "dicom_archive source",
    "Tells of the studies of an archive: STUDY^CHANGED when one has changed and settled, STUDY^COMPLETE when it is complete. The "
    "message is a list of its instances' headers (DICOM JSON, PS3.18 annex F). An instance that comes late reopens its study, with a new "
    "version.",
    [
        _FOLDER,
        Option("settle", DURATION, "how long a study must be quiet before it is told of", default="10s"),
        Option("quiet", DURATION, "how long it must be quiet to be complete where nobody says how many instances it has", default="5m"),
        Option("overdue", DURATION, "how long it must be quiet to be called complete although instances are missing", default="1h"),
        Option(
            "worklist",
            TEXT,
            "file of the modality worklist (dicom_worklist) whose performed procedure steps say when a study is done, relative to the "
            "site's data folder",
        ),
        Option("poll", DURATION, "how often it looks", default="1s"),
    ],
    check=_in_order,
)
