"""What a laboratory says of its instruments, in files that it can edit: SITE/mappings/astm-to-fhir/ (or poct1a-to-fhir/).

``instruments.csv`` (`sender, facility, authority, tests`) knows an instrument by the name that it gives itself (H-5, whole or its first
component; ``*`` is any other), says which facility it belongs to, who assigns the patient numbers in P-3 (as HL7 v2 senders have it in
PID-3.4, so that the patient is the same one), and which file of ``tests/`` has its test codes.
``tests/NAME.csv`` (`code, to, display, unit, ordered_as`) has the LOINC code of each test code, its unit in UCUM, and further codes under
which it is ordered (adapters.worklist reads those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.errors import Fault, ValidationError
from mappings.tables import Row, read

_INSTRUMENT_COLUMNS: Final = ("sender", "facility", "authority", "tests")
_TEST_COLUMNS: Final = ("code", "to", "display", "unit", "ordered_as")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of instruments.csv with its tests. `name` is that of the file of tests."""

    facility: str = ""
    authority: str = ""
    name: str = ""
    tests: Mapping[str, Row] = field(default_factory=dict)
    row: Row | None = None

    def test(self, codes: Sequence[str]) -> Row | None:
        """The row of the first code that has one; one with parameters behind a slash (``10/1/not``) is known without them too."""
        for code in codes:
            found = self.tests.get(code) or self.tests.get(code.split("/", 1)[0])
            if found is not None:
                return found
        return None


@dataclass(frozen=True, slots=True)
class Instruments:
    """All of a site's. `rows` is None where there is no site: then every sender is taken."""

    rows: Mapping[str, Instrument] | None = None

    def find(self, sender: str, name: str) -> Instrument:
        """The instrument that calls itself `sender` or `name`. Raises ValidationError where the site knows it not."""
        if self.rows is None:
            return Instrument()
        found = self.rows.get(sender) or self.rows.get(name) or self.rows.get("*")
        if found is None:
            raise ValidationError("this sender is not in the site's instruments.csv", location="sender", hl7_code="103")
        return found


def load(folder: Path | None, also: Sequence[str], faults: list[Fault]) -> Instruments:
    """A site's instruments, from the folder of one mapping; `also` are other files that it may have. A site must name its instruments: a
    patient's number means nothing without the facility that gave it."""
    if folder is None:
        return Instruments()
    _check_names(folder, also, faults)
    return Instruments(_instruments(folder, faults))


def _check_names(folder: Path, also: Sequence[str], faults: list[Fault]) -> None:
    """A file that nothing reads would silently do nothing: say so."""
    for path in sorted(folder.rglob("*.csv")):
        relative = path.relative_to(folder)
        if relative.as_posix() not in ("instruments.csv", *also) and relative.parts[0] != "tests":
            faults.append(Row(str(path), 0, {}).fault("is no table of this mapping", ("instruments.csv", *also, "tests/"), relative.name))


def _instruments(folder: Path, faults: list[Fault]) -> dict[str, Instrument]:
    file = folder / "instruments.csv"
    if not file.exists():
        faults.append(
            Fault(
                str(file),
                0,
                "is missing: it says whose patients each instrument measures",
                "a line sender,facility,authority,tests and a row *,FACILITY,,",
            )
        )
        return {}
    found: dict[str, Instrument] = {}
    there = sorted(path.stem for path in (folder / "tests").glob("*.csv"))
    for row in read(file, _INSTRUMENT_COLUMNS, faults, site=True):
        if not row["facility"]:
            faults.append(row.fault("says no facility: patients of two places with the same number would become one"))
        if row["sender"] in found:
            faults.append(row.fault(f"names {row['sender']!r} again"))
        name = row["tests"]
        if name and name not in there:
            faults.append(row.fault(f"there is no file tests/{name}.csv", there, name))
            continue
        tests = {test["code"]: test for test in read(folder / "tests" / f"{name}.csv", _TEST_COLUMNS, faults, site=True)} if name else {}
        found[row["sender"]] = Instrument(row["facility"], row["authority"], name, tests, row)
    return found
