"""What a channel file may say under ``dicom_worklist``, and under ``worklist`` of a ``dicom`` source."""

from __future__ import annotations

from typing import Any, Final

from adapters.dicom.worklist import repertoire
from adapters.dicom.worklist.orders import SITE_FIELDS
from adapters.dicom.worklist.reports import FORMATS
from engine.formats.hl7v2 import parse_path
from engine.options import DURATION, FLAG, TEXT, Faulty, Kind, MapOf, Option, Settings, Spec, choice, integer


def _charset(raw: Any) -> tuple[str, ...]:
    values = tuple(part.strip() for part in str(raw).split("\\"))
    if not repertoire.known(values):
        raise Faulty(f"{raw!r} is no DICOM character set that is known here")
    return values


def _path(raw: Any) -> str:
    try:
        parse_path(str(raw))
    except ValueError as error:
        raise Faulty(str(error)) from None
    return str(raw)


CHARSET: Final = Kind(
    "charset",
    "a value of (0008,0005) such as GB18030, GBK, ISO_IR 192, ISO_IR 100, or several: '\\ISO 2022 IR 58'",
    _charset,
    {"type": "string"},
)
PATH: Final = Kind("path", "a field of an HL7 v2 message, such as OBR-21 or ZDS-1.1", _path, {"type": "string"})

_FILE: Final = Option("file", TEXT, "file of the worklist, relative to the site's data folder; channels that name the same file share it",
                      default="dicom-worklist.db")  # fmt: skip


def _known_fields(settings: Settings) -> str:
    unknown = sorted(set(settings.fields or {}) - set(SITE_FIELDS))
    return f"fields: there is no {unknown[0]!r}; allowed: {', '.join(SITE_FIELDS)}" if unknown else ""


DESTINATION: Final = Spec(
    "dicom_worklist destination",
    "Keeps imaging orders (HL7 v2 ORM^O01, OMG^O19, OMI^O23, OML^O21) as scheduled procedure steps, for the modality worklist that a "
    "`dicom` source offers; keeps their patients' names and numbers right (ADT^A08, A31, A18, A40); takes "
    "modality performed procedure steps (MPPS^CREATE, MPPS^SET) from such a source, which must say "
    "`answer: from NAME` of this destination.",
    [
        _FILE,
        Option("keep", DURATION, "how long a step is kept after its day and its last change", default="30d"),
        Option(
            "stations",
            TEXT,
            "table (CSV, relative to the site) of what orders do not say: columns service, code (blank is any) -> modality, ae_title "
            "(several with \\ between), station_name, location",
        ),
        Option("fields", MapOf(PATH), f"where orders have a fact in a place of their own: {', '.join(SITE_FIELDS)}"),
        Option("authority", TEXT, "whose patient number modalities are given (PID-3.4); the first of PID-3 where there is none of it"),
        Option("charset", TEXT, "character set of orders where MSH-18 does not fit", default="utf-8"),
        Option("report", FLAG, "note each change for a channel whose source is dicom_worklist", default=False),
    ],
    check=_known_fields,
)

SOURCE: Final = Spec(
    "dicom_worklist source",
    "Tells whoever ordered what has become of it: an HL7 v2 message with ORC-1 SC, ORC-5 IP, CM or DC, for each step that a modality "
    "begins or ends (`report: true` on the destination).",
    [
        _FILE,
        Option("format", choice(*FORMATS), "ORM^O01 of HL7 2.3.1, or OMG^O19 of 2.5.1", default=FORMATS[0]),
        Option("sender", TEXT, "MSH-3 and MSH-4, with | between; default: the node's name, without a facility", default=""),
        Option("receiver", TEXT, "MSH-5 and MSH-6, with | between", default=""),
        Option("poll", DURATION, "how often it looks for what has changed", default="500ms"),
    ],
)

QUERY: Final = Spec(
    "worklist",
    "Answers queries of the modality worklist (C-FIND, 1.2.840.10008.5.1.4.31).",
    [
        _FILE,
        Option(
            "charset", CHARSET, "of the answers; without it the one that the query is written in. What it has not is given in ISO_IR 192"
        ),
        Option("charsets", MapOf(CHARSET), "by calling AE title; of its queries too, where they say none"),
        Option("most", integer(1, 10000), "matches in one answer; where there are more it ends with A700H", default=1000),
    ],
)
