"""What a channel file may say under ``soap`` as a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from adapters.soap.generic.responses import PLACES, Template
from adapters.soap.generic.wsdl import Description, load
from adapters.soap.options import endpoint_options, no_version
from engine.errors import ParseError
from engine.formats.soap import codec
from engine.message import Verdict
from engine.options import TEXT, Faulty, Kind, ListOf, MapOf, Option, Place, Settings, Spec

MESSAGE_ID: Final = "wsa:MessageID"


def _path(raw: Any) -> str:
    try:
        if raw != MESSAGE_ID:
            codec.check_path(str(raw))
    except ValueError as error:
        raise Faulty(str(error)) from None
    return str(raw)


def _in_site(read: Callable[[Path, Path], Any]) -> Callable[[Any, Place], Any]:
    """A file of the site is read when the site is."""

    def placed(raw: str, place: Place) -> Any:
        folder = place.folder or Path()
        file = folder / raw
        try:
            return read(file, folder)
        except OSError as error:
            raise Faulty(f"{raw!r} cannot be read: {error.strerror}") from None
        except ParseError as error:
            raise Faulty(f"{raw!r}: {error}") from None

    return placed


def _wsdl(file: Path, folder: Path) -> Description:
    description = load(file, folder if file.is_relative_to(folder) else None)
    if not description.operations:
        raise ParseError("no operation is bound to SOAP")
    return description


PATH: Final = Kind("path", f"a path such as Order/id or Order/patient/id/@extension, or {MESSAGE_ID}", _path, {"type": "string"})
_WSDL: Final = Kind("wsdl", "a WSDL file, relative to the site", TEXT.read, {"type": "string"}, _in_site(_wsdl))
_TEMPLATE: Final = Kind(
    "template", "an XML file, relative to the site", TEXT.read, {"type": "string"}, _in_site(lambda file, _: Template(file.read_bytes()))
)


def _verdicts(settings: Settings) -> str:
    unknown = set(settings.codes) - {verdict.value for verdict in Verdict}
    return f"codes are of {', '.join(Verdict)}, not of {', '.join(sorted(unknown))}" if unknown else ""


RESPONSE: Final = Spec(
    "response",
    "What is answered. A verdict that has no code is answered with a fault.",
    [
        Option("template", _TEMPLATE, f"the element in the answer's Body, with {PLACES}; default: the operation's, empty"),
        Option(
            "codes",
            MapOf(TEXT),
            "what ${code} is for each verdict: accepted, refused, invalid, unavailable",
            default={"accepted": "accepted"},
        ),
    ],
    scalar="template",
    check=_verdicts,
)

SOURCE: Final = Spec(
    "soap source",
    "A SOAP 1.1 and 1.2 service with MTOM: the one of a WSDL in the site, or one that takes any element. What it takes is kept as received "
    "and on disk before it is answered.",
    [
        *endpoint_options("/soap"),
        Option("wsdl", _WSDL, "the service; what it imports lies in the site too. Default: one operation Submit that takes any element"),
        Option("control_id", ListOf(PATH), "where a request has its id, by which repetitions are known: the first that is there",
               default=MESSAGE_ID),
        Option("sender", ListOf(PATH), "where it says who sent it: the first that is there", default=[]),
        Option("patient_ids", ListOf(PATH), "where it has the patient's identifiers", default=[]),
        Option("response", RESPONSE, "what is answered", default={}),
    ],
    scalar="listen",
    check=no_version,
)  # fmt: skip
