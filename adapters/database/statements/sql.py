"""What the text of a statement says to us: which parameters it binds, that it is one statement, that nothing is filled into it. Pure."""

from __future__ import annotations

import re
from typing import Final

from engine.options import Faulty

PARAMETER: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
"""As SQLAlchemy's text() has it: ``:name``, but not ``::type`` and not ``\\:name``."""
_CAST: Final = re.compile(r"(?<![:\w\\]):(\w+)::")
_SILENT: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$",
    re.DOTALL,
)


def checked(text: str) -> str:
    """One statement without its semicolon. Raises Faulty."""
    if "${" in text:
        raise Faulty("a statement holds no ${…}: nothing is filled into its text. Write :name in it, and under `with` what that is")
    spoken = _SILENT.sub(lambda match: " " * len(match[0]), text)
    if not spoken.strip():
        raise Faulty("there is no statement")
    end = spoken.rstrip()
    if ";" in end[:-1]:
        raise Faulty("one statement each: what follows a semicolon is a statement of its own, further down the list")
    return text[: len(end) - 1].strip() if end.endswith(";") else text.strip()


def parameters(text: str) -> list[str]:
    """The names that it binds, in their order. Raises Faulty where one would not be bound: in quotes, or before ``::``."""
    for match in _SILENT.finditer(text):
        if match[0][0] in "'\"`" and (inside := PARAMETER.search(match[0])):
            raise Faulty(f":{inside[1]} stands in quotes; a parameter needs none (a colon that is meant as text is written \\:)")
    if cast := _CAST.search(text):
        raise Faulty(f"{cast[0]}… is not bound; write CAST(:{cast[1]} AS …)")
    return list(dict.fromkeys(PARAMETER.findall(text)))
