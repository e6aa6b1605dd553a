"""Every message of the shared corpora is read and given back byte for byte, or refused with a stated reason."""

from pathlib import Path

import pytest

from engine.errors import ParseError
from engine.formats.hl7v2 import batch, decode, read_header

DATA = Path("../shared/data")
EDGE_CASES = DATA / "v2-edge-cases"
PAIRS = DATA / "v2-fhir-pairs"

REFUSED = {
    "malformed/empty-input.hl7": ("100", "does not begin with an MSH"),
    "malformed/no-msh-segment.hl7": ("100", "does not begin with an MSH"),
    "malformed/msh-too-short.hl7": ("101", "ends before MSH-10"),
    "vendor-quirks/missing-required-field.hl7": ("101", "MSH-9 (message type) is empty"),
    "vendor-quirks/mllp-framing-stripped.hl7": ("100", "MLLP frame"),
    "vendor-quirks/unknown-charset.hl7": ("103", "'ISO IR 999' is not supported"),
    "batch/count-mismatch.hl7": ("100", "this is a batch (BHS)"),
    "batch/malformed-mid-batch.hl7": ("100", "this is a batch (BHS)"),
    "batch/multi-batch-file.hl7": ("100", "this is a batch file (FHS)"),
    "batch/single-batch.hl7": ("100", "this is a batch file (FHS)"),
    "stream/large-batch.ndhl7": ("100", "this is a batch (BHS)"),
}

BATCHES = {
    "batch/bare-message.hl7": (1, 0, []),
    "batch/single-batch.hl7": (2, 0, []),
    "batch/multi-batch-file.hl7": (3, 0, []),
    "batch/count-mismatch.hl7": (2, 0, ["BTS-1 does not agree with the number of messages: 2 found"]),
    "batch/malformed-mid-batch.hl7": (3, 1, []),
    "stream/large-batch.ndhl7": (12, 0, []),
    "stream/malformed-mid-stream.hl7": (3, 1, []),
    "stream/mixed-terminators.hl7": (2, 0, []),
    "stream/split-across-chunks.hl7": (2, 0, []),
    "vendor-quirks/duplicate-required-segment.hl7": (2, 0, []),
}

needs_data = pytest.mark.skipif(not EDGE_CASES.exists(), reason="the shared message corpora are not at ../shared/data")


def names() -> list[str]:
    found = [*EDGE_CASES.rglob("*hl7"), *PAIRS.glob("*.hl7")]
    return sorted(str(path.relative_to(EDGE_CASES if EDGE_CASES in path.parents else DATA)) for path in found if path.is_file())


def body_of(name: str) -> bytes:
    return ((DATA if name.startswith("v2-fhir-pairs") else EDGE_CASES) / name).read_bytes()


@needs_data
@pytest.mark.parametrize("name", [name for name in names() if name not in REFUSED])
def test_a_message_is_read_and_given_back(name: str) -> None:
    """Unchanged and rewritten field by field, the bytes are the same; every leaf can be read."""
    body = body_of(name)
    message = decode(body)
    assert message.encode() == body
    for segment in message.segments:
        for number in range(3 if segment.is_header else 1, len(segment.fields)):
            segment.set_field(number, segment.field(number))
    assert message.encode() == body
    header = read_header(body)
    assert message.get("MSH-10") == message.separators.unescape(header.control_id)


@needs_data
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_reason(name: str) -> None:
    """The code of table 0357 and the reason are stated; a batch is to be split first."""
    code, reason = REFUSED[name]
    with pytest.raises(ParseError) as caught:
        decode(body_of(name))
    assert caught.value.hl7_code == code
    assert reason in caught.value.text


@needs_data
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_split_into_all_its_messages(name: str) -> None:
    """Nothing is lost: a malformed message is a slice of its own, the good ones around it are read, counts are compared."""
    body = body_of(name)
    found = batch.split(body)
    messages, malformed, faults = BATCHES[name]
    assert batch.is_batch(body) is (messages > 1)
    assert (len(found.messages), found.faults) == (messages, faults)
    assert all(one in body for one in found.messages)
    bad = 0
    for one in found.messages:
        try:
            assert decode(one).encode() == one
        except ParseError:
            bad += 1
    assert bad == malformed


@needs_data
def test_the_list_of_refusals_is_not_out_of_date() -> None:
    """Each name that is expected is there, so that a renamed file cannot pass by being absent."""
    assert {*REFUSED, *BATCHES} <= set(names())


@needs_data
@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("edge-cases/custom-msh-delimiters.hl7", "PID-5.2", "John"),
        ("edge-cases/embedded-delimiters.hl7", "PID-5.1", "Smith|Jones"),
        ("edge-cases/embedded-delimiters.hl7", "PID-5.2", "John^Public"),
        ("edge-cases/null-fields.hl7", "PID-2", '""'),
        ("edge-cases/null-fields.hl7", "PID-7", "19850601"),
        ("edge-cases/null-fields.hl7", "PID-20", None),
        ("edge-cases/empty-fields.hl7", "PID-3", ""),
        ("edge-cases/truncation-char-msh2.hl7", "OBX-5", "truncated#at end"),
        ("edge-cases/unknown-escapes.hl7", "OBX-5", "Some text with \\Z99\\ embedded"),
        ("edge-cases/escape-highlight.hl7", "OBX-5", "Critical value requires attention"),
        ("edge-cases/escape-formatting.hl7", "OBX[2]-5", "\\C2842\\\\M824041\\charset switch"),
        ("edge-cases/decoded-br.hl7", "OBX-5", "Specimen received.\nGross examination normal.\nMicroscopic examination pending."),
        ("edge-cases/unicode-names.hl7", "PID-5[2].1", "李"),
        ("edge-cases/mixed-line-endings.hl7", "PV1-2", "I"),
        ("edge-cases/crlf-line-endings.hl7", "PV1-3.4", "HOSP"),
        ("text/hex-and-delimiters.hl7", "OBX-5", "Ratio 1^128 and unit mg|dL ends with !"),
        ("text/inject-on-encode.hl7", "NTE-3", "X|Y^Z~W\\Q&V\rline2"),
        ("canonical/nested-subcomponents.hl7", "PID-5.8.3", "Alias"),
        ("canonical/z-segments.hl7", "ZXX-3", "customField2"),
        ("vendor-quirks/segment-case.hl7", "PID-5.1", "Doe"),
        ("vendor-quirks/extra-fields.hl7", "EVN-9", "extra5"),
        ("vendor-quirks/field-whitespace-trimmed.hl7", "PID-3.1", "  MRN-VQ-002  "),
        ("charset/utf8-name.hl7", "PID-5[2].2", "太郎"),
    ],
)
def test_what_an_edge_case_says(name: str, path: str, expected: str | None) -> None:
    """The trap of each file, read as the standard has it."""
    assert decode(body_of(name)).get(path) == expected
