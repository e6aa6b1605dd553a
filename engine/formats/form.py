"""The fields of a form, as browsers and older web interfaces post them (WHATWG URL clause 5.1): ``order_no=A1&name=%E5%BC%A0``."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from engine.errors import ParseError
from engine.message import FORM

_MOST_FIELDS: Final = 1000


class Form:
    """engine.contracts.Document: a path is the name of a field; of one that is there several times the first is meant."""

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.fields = fields

    def get(self, path: str) -> str | None:
        codec.check_path(path)
        return next(iter(self.fields.get(path, ())), None)

    def indexes(self, path: str) -> range:
        """One for each time that the field is there."""
        return range(len(self.fields.get(path, ())))


class FormCodec:
    """engine.contracts.Codec"""

    content_type = FORM

    def decode(self, body: bytes) -> Form:
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        except UnicodeDecodeError:
            raise ParseError("the form is not percent-encoded UTF-8") from None
        except ValueError:
            raise ParseError(f"the form has more than {_MOST_FIELDS} fields") from None
        fields: dict[str, list[str]] = {}
        for name, value in pairs:
            fields.setdefault(name, []).append(value)
        return Form(fields)

    def check_path(self, path: str) -> None:
        if not path:
            raise ValueError("a field of a form has a name")


codec: Final = FormCodec()
