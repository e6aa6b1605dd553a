"""What a channel file may say under ``dicom_archive``."""

from __future__ import annotations

from typing import Final

from engine.options import ADDRESS, DURATION, SIZE, TEXT, MapOf, Option, Settings, Spec, integer
from engine.tls import CLIENT_TLS

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
    "message is a list of its instances' headers (DICOM JSON, PS3.18 annex F), each attribute once a series. An instance that comes late "
    "reopens its study, with a new version.",
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

_DESTINATION: Final = Spec(
    "move destination",
    "Where a C-MOVE may send instances to.",
    [
        Option("connect", ADDRESS, "host:port of the application entity", required=True),
        Option("tls", CLIENT_TLS, "connect over TLS"),
    ],
    scalar="connect",
)

QUERY: Final = Spec(
    "archive options",
    "Answers C-FIND, C-MOVE and C-GET (Patient Root and Study Root) from an archive that a `dicom_archive` destination of this node fills.",
    [
        _FOLDER,
        Option("destinations", MapOf(_DESTINATION), "where a C-MOVE may send instances to, by AE title; others are answered A801H"),
        Option("most", integer(1, 1_000_000), "matches in one answer; where there are more, the last response is A700H", default=2000),
        Option("most_instances", integer(1, 10_000_000), "instances of one C-MOVE or C-GET; more are refused with A702H", default=20000),
        Option("at_once", integer(1, 64), "requests that are answered at once; further ones are refused with A700H", default=8),
        Option("timeout", DURATION, "how long to wait for the response to a C-STORE sub-operation", default="60s"),
        Option("connect_timeout", DURATION, "how long to wait for a connection to a move destination", default="10s"),
    ],
    scalar="folder",
)
