"""An OUL^R22 in the making, from messages of instruments that speak no HL7 v2, with the origin of each of its elements."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from engine.formats.hl7v2.separators import STANDARD
from engine.message import Lineage
from mappings.instruments import Instrument

Place = tuple[int, int, int]
"""Segment (from 1), field, component (0 for the whole field) of the OUL^R22."""

NUMBER: Final = re.compile(r"\s*(?:(?:<=|>=|=<|=>|<|>|≤|≥)\s*)?[+-]?(?:\d+\.?\d*|\.\d+)\s*")
"""What OBX-5 holds as NM, comparators included."""
_PLACE: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+))?(?:\[\d+\])?(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Of one v2 element: the ASTM element it was made from, and the row that says so."""

    source: str
    rule: str


@dataclass(slots=True)
class Segments:
    """The OUL^R22 under construction: fields with their number, and the origin of each element."""

    lines: list[list[str]] = field(default_factory=list)
    origins: dict[Place, Origin] = field(default_factory=dict)

    def open(self, name: str, source: str) -> None:
        self.lines.append([name])
        self.origins[len(self.lines), 0, 0] = Origin(source, "")

    def put(self, number: int, component: int, text: str, source: str, rule: str, *, repeat: bool = False) -> None:
        """Write text into a component of the last segment; what is there already stays, unless `repeat` begins another repetition."""
        fields = self.lines[-1]
        fields += [""] * (number + 1 - len(fields))
        kept, mark, current = fields[number].rpartition("~")
        if repeat and fields[number]:
            kept, mark, current = fields[number], "~", ""
        parts = current.split("^")
        parts += [""] * (component - len(parts))
        if not parts[component - 1]:
            parts[component - 1] = STANDARD.escape_text(text)
            fields[number] = kept + mark + "^".join(parts)
            self.origins.setdefault((len(self.lines), number, component), Origin(source, rule))
            self.origins.setdefault((len(self.lines), number, 0), Origin(source, rule))

    def header(self, source: str, instrument: Instrument, sender: str) -> None:
        """MSH of an OUL^R22, of the instrument's facility; `sender` is where the instrument names itself."""
        self.open("MSH", source)
        line = self.lines[0]
        line += ["|", "^~\\&"]
        if instrument.row is not None:
            self.put(4, 1, instrument.facility, sender, f"instruments.csv row {instrument.row['sender']} (site)")
        line += [""] * (13 - len(line))
        line[9], line[12] = "OUL^R22^OUL_R22", "2.5.1"

    def traced(self, line: Lineage) -> Lineage:
        """A lineage row of the OUL^R22 as one of the message that it was made of."""
        match = _PLACE.fullmatch(line.source)
        if match is None:
            return line
        name, number, place, component = match[1], int(match[2] or 0), int(match[3] or 0), int(match[4] or 0)
        wanted = [number] if number else [at for at, fields in enumerate(self.lines, 1) if fields[0] == name]
        for at in wanted:
            for key in ((at, place, component), (at, place, 0)):
                if key in self.origins:
                    origin = self.origins[key]
                    return Lineage(line.target, origin.source, f"{origin.rule}; {line.rule}" if origin.rule else line.rule)
        return Lineage(line.target, self.origins[wanted[0] if wanted else 1, 0, 0].source, line.rule)
