"""Parties from a CSV file: every faulty line is found, at its line."""

from __future__ import annotations

import pytest

from engine.errors import Fault
from engine.parties import Kind, Mark, Party
from engine.parties.table import read

HEAD = "id,kind,name,belongs_to,identifiers,certificates,ae_titles,senders,serials,may_send,channels\n"


def parsed(text: str) -> tuple[list[str], dict[str, tuple[int, Party]]]:
    faults: list[Fault] = []
    found = read(text.splitlines(keepends=True), "p.csv", faults)
    return [str(fault) for fault in faults], found


def test_a_whole_line() -> None:
    """Every column, several values in a cell, quotes over two lines, empty lines, spaces."""
    text = HEAD + (
        "\r\n"
        '"county",institution,"县医院, \n新院",,uscc|91110000600037341L; urn:oid:1.2|7,county-2,HIS1,HIS|COUNTY;LIS|COUNTY,SN1,ADT^*;*,a;b\r\n'
        ",,,,,,,,,,\r\n"
        "x , staff\r\n"
    )
    faults, found = parsed(text.replace("\n新院", "新院"))
    assert faults == []
    assert found["x"] == (5, Party("x", Kind.STAFF))
    assert found["county"] == (
        3,
        Party(
            "county",
            Kind.INSTITUTION,
            "县医院, 新院",
            identifiers=(("uscc", "91110000600037341L"), ("urn:oid:1.2", "7")),
            marks=(
                (Mark.CERTIFICATE, "county-2"), (Mark.AE_TITLE, "HIS1"), (Mark.SENDER, "HIS|COUNTY"), (Mark.SENDER, "LIS|COUNTY"),
                (Mark.SERIAL, "SN1"),
            ),
            may_send=("ADT^*", "*"),
            channels=("a", "b"),
        ),
    )  # fmt: skip
    faults, found = parsed(text)
    assert faults == ["p.csv:3: its name has more than 200 characters, a semicolon or a control character"]
    assert found["x"][0] == 6


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("A B,device", "'A B' is not a party name"),
        ("urn:meridian:party:a,device", "is a URI; write a"),
        (",device", "'' is not a party name"),
        ("a,robot", "'robot' is no kind of party: institution, staff, device"),
        ("a", "'' is no kind of party"),
        ("a,device,,,uscc", "'uscc' is no identifier such as"),
        ("a,device,,,uscc|1", "uscc '1' has 1 characters"),
        ("a,device,,,other|1", "'other' is no system of identifiers: uscc, ws218 or a URI"),
        ("a,device,,,urn:x|", "the identifier in urn:x has 1 to 200 characters"),
        ("a,device,,,,B", "certificate: 'B' is not a party name"),
        ("a,device,,,,,SEVENTEEN_LETTERS", "is no AE title"),
        ("a,device,,,,,A\\B", "is no AE title"),
        ("a,device,,,,,,|", "'|' is no sender"),
        ("a,device,,,,,,,,A*B", "'A*B' is no message type"),
        ("a,device,,,,,,,,,My Channel", "'My Channel' cannot be the name of a channel"),
        ("a,device,,,,,,,,,,more", "has 1 more cells than the header"),
        ("a,device,,B", "belongs_to: 'B' is not a party name"),
        ("a,device,,,,,,,,,\n\na,staff", "p.csv:4: 'a' is on line 2 already"),
        ('a,device,"x"y', "p.csv:2: not CSV"),
        ("a,device,,,,,," + ";".join(f"S{n}|X" for n in range(101)), "more than 100 of one thing"),
    ],
)
def test_faulty_lines(cells: str, said: str) -> None:
    """One fault each."""
    (fault,), _ = parsed(HEAD + cells + "\n")
    assert said in fault
    assert fault.startswith("p.csv:")


def test_all_faults_at_once() -> None:
    """Several in a line, and in several lines."""
    faults, _ = parsed(HEAD + "a,device,,,uscc|1,,,|\nB,device\n")
    assert [fault.split(": ")[0] for fault in faults] == ["p.csv:2", "p.csv:2", "p.csv:3"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,kind,sender\n", ["p.csv:1: there is no column 'sender' (did you mean 'senders'?); allowed: id, kind"]),
        ("id,kind,id\n", ["'id' is there more than once", "'id' is there more than once"]),
        ("name\n", ["the column 'id' is missing", "the column 'kind' is missing"]),
        ("", ["the column 'id' is missing", "the column 'kind' is missing"]),
    ],
)
def test_a_faulty_header(header: str, said: list[str]) -> None:
    """Nothing else is read then."""
    faults, found = parsed(header + "a,robot\n" if header else "")
    assert all(text in fault for text, fault in zip(said, faults, strict=True))
    assert found == {}
