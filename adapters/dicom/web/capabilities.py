"""What the server can do: the capabilities description (PS3.18 clause 8.9), as WADL. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import quoteattr

from adapters.dicom.web.media import DICOM_FILE, DICOM_JSON, DICOM_XML, OCTETS, RELATED, acceptable, choose
from adapters.dicom.web.queries import LEVELS
from engine.http_answers import Answer

WADL: Final = "application/vnd.sun.wadl+xml"
_STUDY: Final = "studies/{study}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_SEARCHED: Final = {
    "studies": ("studies",),
    "series": ("series", f"{_STUDY}/series"),
    "instances": ("instances", f"{_STUDY}/instances", f"{_SERIES}/instances"),
}
_FILES: Final = (f'{RELATED}; type="{DICOM_FILE}"',)
_DATA_SETS: Final = (DICOM_JSON, f'{RELATED}; type="{DICOM_XML}"')
_IMAGES: Final = ("image/jpeg", "image/png")
_RETRIEVED: Final = {
    **dict.fromkeys((_STUDY, _SERIES, _INSTANCE), _FILES),
    **dict.fromkeys((f"{_STUDY}/metadata", f"{_SERIES}/metadata", f"{_INSTANCE}/metadata"), _DATA_SETS),
    f"{_INSTANCE}/frames/{{frames}}": (f'{RELATED}; type="{OCTETS}"',),
    f"{_INSTANCE}/bulkdata/{{path}}": (f'{RELATED}; type="{OCTETS}"', OCTETS),
    **dict.fromkeys((f"{_INSTANCE}/rendered", f"{_INSTANCE}/frames/{{frames}}/rendered"), _IMAGES),
    **dict.fromkeys((f"{_STUDY}/thumbnail", f"{_SERIES}/thumbnail", f"{_INSTANCE}/thumbnail"), _IMAGES),
}


def capabilities(base: str, headers: Mapping[str, str], *, reads: bool) -> Answer:
    """Raises WebRefusal 406."""
    choose(acceptable(headers), {WADL: "", "application/xml": ""})
    resources = {path: [_method("POST", "StoreInstances", (DICOM_JSON, DICOM_XML), _FILES)] for path in ("studies", _STUDY)}
    if reads:
        for level, paths in _SEARCHED.items():
            for path in paths:
                name = f"SearchFor{level.capitalize()}"
                assert level in LEVELS
                resources.setdefault(path, []).append(_method("GET", name, _DATA_SETS))
        for path, media in _RETRIEVED.items():
            resources.setdefault(path, []).append(_method("GET", "Retrieve", media))
    inside = "".join(f"<resource path={quoteattr(path)}>{''.join(methods)}</resource>" for path, methods in resources.items())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<application xmlns="http://wadl.dev.java.net/2009/02">'
        f"<resources base={quoteattr(base + '/')}>{inside}</resources></application>"
    )
    return Answer(200, [text.encode()], WADL)


def _method(method: str, name: str, answers: tuple[str, ...], bodies: tuple[str, ...] = ()) -> str:
    request = "".join(f"<representation mediaType={quoteattr(media)}/>" for media in bodies)
    response = "".join(f"<representation mediaType={quoteattr(media)}/>" for media in answers)
    return f'<method name="{method}" id="{name}"><request>{request}</request><response status="200">{response}</response></method>'
