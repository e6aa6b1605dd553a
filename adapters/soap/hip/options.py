"""What a channel file may say under ``hip``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from adapters.soap.hip.style import OPTIONS, SHIPPED, style_of
from adapters.soap.options import endpoint_options
from engine.formats.hip import SERVICES
from engine.options import TEXT, ZONE, Faulty, Kind, MapOf, Option, Place, Settings, Spec, choice


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise Faulty("must be text")
    return raw


def _folder(text: str, place: Place) -> Path:
    """Relative to the site."""
    return (place.folder or Path()) / text


FOLDER: Final = Kind("folder", "a folder, relative to the site's", _text, {"type": "string"}, _folder)


def wrong_together(settings: Settings) -> str:
    """engine.options.Spec.check"""
    if settings.versions == []:
        return "versions: at least one"
    return "validation: strict needs schemas: FOLDER" if settings.validation == "strict" and settings.schemas is None else ""


HIP_OPTIONS: Final = (
    Option(
        "style",
        choice(*SHIPPED),
        "how the vendor's systems call: a set of values for the next options, each of which can be said here too",
        default="standard",
    ),
    *OPTIONS,
    Option(
        "actions",
        MapOf(choice(*SERVICES)),
        "the site's words for services (`S0026: InPatientInfoAdd`); the standard's own names hold beside them",
        default={},
    ),
    Option("schemas", FOLDER, "the standard's schema files: services/*.xsd and cdas/*.xsd in this folder"),
    Option(
        "validation",
        choice("strict", "lenient", "off"),
        "strict: what breaks its schema is answered AE and kept as invalid; lenient: it is taken, the faults are logged and counted",
        default="lenient",
    ),
    Option(
        "documents",
        choice("check", "flag", "off"),
        "a registered document is not what its message says (id, type, title, time, patient): check: AE; flag: it is only noted",
        default="check",
    ),
    Option("device", TEXT, "id of this platform as sender of answers; default: the receiver that the message names"),
    Option("zone", ZONE, "time zone of the times in answers", default="Asia/Shanghai"),
)

SOURCE: Final = Spec(
    "hip source",
    "The hospital platform's service HIPMessageServer (WS/T 846-2024), called as a vendor's systems call it. Answers MCCI_IN000002UV01: AA "
    "when the message is on disk, AE with the reason where it is not taken.",
    [*(option for option in endpoint_options("/hip") if option.name != "versions"), *HIP_OPTIONS],
    scalar="listen",
    check=wrong_together,
)


def for_the_source(options: Settings) -> Settings:
    """With the style's SOAP versions, where none were said: what adapters.soap.source looks at."""
    return Settings(SOURCE, {**options, "versions": list(style_of(options).versions)}, options.lines)
