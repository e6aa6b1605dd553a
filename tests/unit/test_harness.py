"""The harness for channel tests: what it compares, what it refuses to record, what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels import harness, load
from channels.differences import differences

CHANNEL = """\
name: lab
source:
  mllp: {listen: 2575, senders: {county-laboratory: ["LIS|LAB"]}, fallback: GB 18030-2000}
accept: ["message.type in ['ORU^R01', 'ADT^A99']"]
map: hl7v2-to-fhir
destinations:
  - name: platform
    fhir: {url: "http://platform.example/fhir"}
"""
RESULT = "MSH|^~\\&|LIS|LAB|M|C|20261102||ORU^R01|C1|P|2.5\nPID|1||7^^^C^MR||{name}\nOBR|1||F1^LIS|GLU^Glucose^L\n"
FROM = {"from": "county-laboratory"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for folder in ("channels", "tests/lab"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
    (tmp_path / "channels/lab.yaml").write_text(CHANNEL)
    return tmp_path


def put(site: Path, name: str, message: bytes, expected: object = None) -> Path:
    (site / f"tests/lab/{name}.hl7").write_bytes(message)
    file = site / f"tests/lab/{name}.expected.json"
    if expected is not None:
        file.write_text(json.dumps(expected))
    return file


def outcomes(site: Path, *, update: bool = False) -> dict[str, harness.Outcome]:
    return {outcome.name: outcome for outcome in harness.run(load(site), update=update)}


def message(kind: str = "ORU^R01", sender: str = "LIS") -> bytes:
    return RESULT.format(name="Lin^Mei").replace("ORU^R01", kind).replace("|LIS|", f"|{sender}|").encode()


@pytest.mark.parametrize("expected", [FROM, {**FROM, "verdict": "accepted", "status": "QUEUED"}])
def test_an_error_is_not_recorded_by_itself(site: Path, expected: dict[str, str]) -> None:
    """A type that nobody maps: --update writes nothing and says what to write if that is what must come out."""
    file = put(site, "unmapped", message("ADT^A99"), expected)
    (said,) = outcomes(site, update=True)["lab/unmapped.hl7"].differences
    assert 'put {"verdict":"accepted","status":"ERROR"} into unmapped.expected.json' in said
    assert json.loads(file.read_text()) == expected


def test_an_error_that_somebody_wants_is_recorded(site: Path) -> None:
    """The expectation names it: then its reason is filled in, and the test passes."""
    put(site, "unmapped", message("ADT^A99"), {**FROM, "verdict": "accepted", "status": "ERROR"})
    assert outcomes(site)["lab/unmapped.hl7"].differences == ()
    file = put(site, "unmapped", message("ADT^A99"), {**FROM, "verdict": "accepted", "status": "ERROR", "reason": "?"})
    assert outcomes(site, update=True)["lab/unmapped.hl7"].new
    assert "is not mapped" in json.loads(file.read_text())["reason"]


def test_invalid_content_is_an_error_too(site: Path) -> None:
    """Bytes of neither the declared nor the fallback character set."""
    put(site, "broken", message().replace(b"Mei", b"\xff\xff"), FROM)
    assert "not written" in outcomes(site, update=True)["lab/broken.hl7"].differences[0]


def test_a_message_passes_the_source_first(site: Path) -> None:
    """Its character set, and who may send as whom by the certificate that "from" stands for."""
    put(site, "chinese", RESULT.format(name="林^梅").encode("gb18030"), FROM)
    put(site, "impostor", message(sender="HIS"), FROM)
    put(site, "nobody", message(), {})
    outcomes(site, update=True)
    read = {name: json.loads((site / f"tests/lab/{name}.expected.json").read_text()) for name in ("chinese", "impostor", "nobody")}
    assert "林" in json.dumps(read["chinese"], ensure_ascii=False)
    assert [read[name]["verdict"] for name in ("impostor", "nobody")] == ["refused", "refused"]
    assert all(not outcome.differences for outcome in outcomes(site).values())


def test_line_ends_do_not_matter(site: Path) -> None:
    """An editor's line ends are the segment terminator (clause 2.5.4), so the same result comes out of all three."""
    for name, end in (("a", b"\n"), ("b", b"\r\n"), ("c", b"\r")):
        put(site, name, message().replace(b"\n", end), FROM)
    outcomes(site, update=True)
    assert len({(site / f"tests/lab/{name}.expected.json").read_bytes() for name in "abc"}) == 1


def test_what_would_never_run_is_named(site: Path) -> None:
    """A folder of no channel, an expectation without its message; a disabled channel's tests may wait."""
    (site / "tests/lba").mkdir()
    put(site, "gone", message(), FROM)
    (site / "tests/lab/gone.hl7").unlink()
    (site / "channels/off.yaml").write_text(CHANNEL.replace("name: lab", "name: off\nenabled: false").replace("2575", "2576"))
    (site / "tests/off").mkdir()
    found = outcomes(site)
    assert set(found) == {"lba", "lab/gone"}
    assert "there is no channel 'lba'; known: lab" in found["lba"].differences[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"from": "No Party"}'])
def test_an_expectation_that_cannot_be_read(site: Path, content: str) -> None:
    """Said in a line with the file's name, and never overwritten."""
    put(site, "a", message()).write_text(content)
    for update in (False, True):
        (said,) = outcomes(site, update=update)["lab/a.hl7"].differences
        assert said.startswith("a.expected.json")


def test_one_entry_more_is_one_difference() -> None:
    """Equal entries are found before others are compared."""
    entries = [{"resource": {"resourceType": kind}} for kind in ("Patient", "Encounter", "Observation")]
    assert list(differences({"entry": entries}, {"entry": entries[1:]})) == [
        'entry[0](Patient): missing, expected {"resource":{"resourceType":"Patient"}}'
    ]
    assert list(differences({"entry": entries[1:]}, {"entry": entries})) == [
        'entry[0](Patient): not expected, got {"resource":{"resourceType":"Patient"}}'
    ]


WSDL = Path(__file__).resolve().parents[2] / "adapters/soap/generic/default.wsdl"
CALLING = """\
name: lab
source: {mllp: {listen: 2575}}
destinations:
  - name: platform
    soap:
      wsdl: service.wsdl
      url: "http://127.0.0.1:1/"
      body: submit.xml
      documents: {result: result.xml}
      tables: {kind: {of: "${MSH-9.1}", table: {ORU: result}}}
"""


def test_a_destination_with_words_of_its_own_shows_them(site: Path) -> None:
    """The envelope; in it a message that is a string, whose values are escaped twice, since they are in XML within XML."""
    (site / "channels/lab.yaml").write_text(CALLING)
    (site / "service.wsdl").write_bytes(WSDL.read_bytes())
    (site / "submit.xml").write_text('<Submit xmlns="urn:meridian:soap"><a kind="${tables.kind}">${documents.result}</a></Submit>')
    (site / "result.xml").write_text('<r name="${PID-5.1}"><of>${message.control_id}</of></r>')
    put(site, "one", RESULT.format(name='L"in&<Mei').replace("&<", "\\T\\<").encode())
    put(site, "other", message("ADT^A99"))
    (one, other) = outcomes(site, update=True).values()
    assert (one.differences, one.new) == ((), True)
    lines = json.loads((site / "tests/lab/one.expected.json").read_text())["destinations"]["platform"]
    (line,) = [line for line in lines if "<a " in line]
    assert 'kind="result"' in line
    assert '&lt;r name="L&amp;quot;in&amp;amp;&amp;lt;Mei"&gt;&lt;of&gt;C1&lt;/of&gt;&lt;/r&gt;' in line
    told = json.loads((site / "tests/lab/other.expected.json").read_text())["destinations"]["platform"]
    assert told == "dead letter: ${MSH-9.1}: tables.kind has no row for this message, and no otherwise", other
