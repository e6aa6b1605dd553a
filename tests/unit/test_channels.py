"""Channel files: every fault with file, line and the nearest name; programs judge, filter, route and map."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from channels import load
from channels.manual import manual
from engine.channel import PartyCheck
from engine.errors import ConfigError
from engine.expressions import ExpressionError, compile_predicate
from engine.message import DICOM, DICOM_JSON, HL7V2, ORDER_KEY, Envelope, Status, Verdict

NODE = "name: n\nparty: n\n"
CHANNEL = """\
name: lab
source:
  mllp: {listen: 2575}
accept: ["message.type == 'ORU^R01'"]
filter: ["message['PID-8'] != 'X'"]
destinations:
  - name: all
    mllp: {connect: "h:1"}
    order: strict
  - name: women
    mllp: {connect: "h:2"}
    when: ["message['PID-8'] == 'F'"]
"""


def site(folder: Path, channel: str = CHANNEL, node: str = NODE) -> Path:
    (folder / "channels").mkdir()
    (folder / "meridian.yaml").write_text(node)
    (folder / "channels" / "lab.yaml").write_text(channel)
    return folder


def faults(folder: Path, channel: str, node: str = NODE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(site(folder, channel, node))
    return [str(fault) for fault in caught.value.faults]


def oru(sex: str = "F", kind: str = "ORU^R01") -> Envelope:
    body = f"MSH|^~\\&|A|B|C|D|2026||{kind}|1|P|2.5\rPID|1||7|||||{sex}\r".encode()
    return Envelope(body, HL7V2, kind, "1", "A|B", patient_ids=("7",))


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("  mllp: {listen: 2575}", "  mlpp: {listen: 2575}", ["channels/lab.yaml:3: source: there is no 'mlpp' (did you mean 'mllp'?)"]),
        ("listen: 2575", "lisen: 2575", ["mllp source has no option 'lisen' (did you mean 'listen'?)", "needs 'listen'"]),
        ("listen: 2575", "listen: 99999", ["channels/lab.yaml:3: source.mllp.listen: 99999 is not a port"]),
        ("order: strict", "order: strickt", ["channels/lab.yaml:9: destinations[1].order: 'strickt'", "(did you mean 'strict'?)"]),
        ("message.type ==", "message.typ ==", ["channels/lab.yaml:4: accept[1]: message has no fact 'typ'", "(did you mean 'type'?)"]),
        ("message['PID-8'] != 'X'", "message['PID_8'] != 'X'", ["'PID_8' is not an HL7 v2 path"]),
        ("name: lab", "name: lab\nparties: refused", ["channels/lab.yaml:2: parties: 'refused'", "(did you mean 'refuse'?)"]),
        ("name: women", "name: all", ["two destinations are called 'all'"]),
        ("name: lab\n", "name: lab\nanswer: from alll\n", ["'from alll' is not possible (did you mean 'from all'?)"]),
        ("name: lab\n", "name: lab\nmap: hl7-to-fhir\n", ["there is no mapping 'hl7-to-fhir' (did you mean 'hl7v2-to-fhir'?)"]),
        ("name: lab\n", "name: lab\nmap: dicom-to-fhir\n", ["takes application/dicom, application/dicom+json, the source mllp gives"]),
        ("name: lab\n", "name: lab\nname: lab\n", ["channels/lab.yaml:2: not YAML", "duplicate key"]),
        ("source:\n", "source: [\n", ["not YAML"]),
        ("name: lab\n", "name: Lab Results\n", ["channels/lab.yaml:1: name: 'Lab Results' cannot be a name; allowed: small letters"]),
        ("name: women", "name: wo/men", ["channels/lab.yaml:10: destinations[2].name: 'wo/men' cannot be a name"]),
    ],
)
def test_a_fault_says_where_and_what(tmp_path: Path, wrong: str, right: str, expected: list[str]) -> None:
    """File and line, what is wrong, what was probably meant."""
    assert wrong in CHANNEL
    said = "\n".join(faults(tmp_path, CHANNEL.replace(wrong, right)))
    for part in expected:
        assert part in said, said


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Faults of all files are listed together."""
    said = faults(tmp_path, CHANNEL.replace("order: strict", "order: x").replace("listen: 2575", "listen: x"), "name: n\nworker: 3\n")
    assert len(said) == 4
    assert {line.split(":")[0] for line in said} == {"meridian.yaml", "channels/lab.yaml"}


def test_a_mapping_that_no_destination_uses_is_checked(tmp_path: Path) -> None:
    """By its own line."""
    channel = "name: lab\nsource:\n  mllp: {listen: 2575}\nmap: hl7-to-fhir\n"
    assert "channels/lab.yaml:4: map: there is no mapping 'hl7-to-fhir'" in faults(tmp_path, channel)[0]


def test_a_fault_of_a_destination_hides_no_other(tmp_path: Path) -> None:
    """Its own options, its adapter's, and its mapping."""
    wrong = CHANNEL.replace('{connect: "h:1"}\n    order: strict', "{connect: nowhere}\n    order: x\n    retry: 3\n    map: nothing")
    said = "\n".join(faults(tmp_path, wrong))
    for part in ("connect: 'nowhere'", "order: 'x'", "retry must be a mapping", "no mapping 'nothing'"):
        assert part in said, said


def test_two_channels_on_one_port(tmp_path: Path) -> None:
    """What only shows across files."""
    site(tmp_path)
    (tmp_path / "channels" / "other.yaml").write_text(CHANNEL.replace("name: lab", "name: other"))
    with pytest.raises(ConfigError, match="port 2575 is taken by channel 'lab' already"):
        load(tmp_path)


def test_a_sequence_stays_in_its_order(tmp_path: Path) -> None:
    """Messages of one numbered sequence share a key, whomever they are about, where the destination is ordered by patient."""
    (channel,) = load(site(tmp_path)).channels
    routed = channel.program.plan(replace(oru("F"), facts={ORDER_KEY: "cart"})).routed
    assert [(one.destination, one.order_key) for one in routed] == [("all", ""), ("women", "cart")]


def test_a_folder_without_a_site(tmp_path: Path) -> None:
    """Says how to make one."""
    with pytest.raises(ConfigError, match="meridian init"):
        load(tmp_path)


def test_judge(tmp_path: Path) -> None:
    """Other types are refused with table 0357 code 200."""
    (channel,) = load(site(tmp_path)).channels
    judgement = channel.program.judge(oru(kind="ADT^A01"))
    assert (judgement.verdict, judgement.hl7_code) == (Verdict.REFUSED, "200")
    assert channel.program.judge(oru()).verdict is Verdict.ACCEPTED


def test_filter_and_routes(tmp_path: Path) -> None:
    """The filter drops; `when` decides per destination; keys follow the order."""
    (channel,) = load(site(tmp_path)).channels
    assert channel.program.light
    assert channel.program.plan(oru("X")).status is Status.FILTERED
    assert [routed.destination for routed in channel.program.plan(oru("M")).routed] == ["all"]
    both = channel.program.plan(oru("F")).routed
    assert [(routed.destination, routed.order_key) for routed in both] == [("all", ""), ("women", "7")]


def test_the_same_program_in_another_process(tmp_path: Path) -> None:
    """The recipe compiles to a program with the same results."""
    (channel,) = load(site(tmp_path)).channels
    assert channel.recipe.compile().plan(oru("F")) == channel.program.plan(oru("F"))


def test_content_that_cannot_be_read_is_an_error_plan(tmp_path: Path) -> None:
    """A plan never raises."""
    (channel,) = load(site(tmp_path)).channels
    plan = channel.program.plan(Envelope(b"nonsense", HL7V2))
    assert (plan.status, plan.error_code) == (Status.ERROR, "message.parse")


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os')",
        "message.__class__",
        "message.type.format('x')",
        "(lambda: 1)()",
        "message.type == 1",
        "[x for x in 'a']",
        "1 +",
        "x",
    ],
)
def test_expressions_allow_nothing_else(source: str) -> None:
    """Calls, attributes and names beyond the listed ones do not compile."""
    with pytest.raises(ExpressionError):
        compile_predicate(source)


def test_the_manual_is_markdown() -> None:
    """Every row of a table has the four cells of its heading, whatever a value's words; defaults are as YAML writes them."""
    rows = [line for line in manual().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "`False`" not in manual()


@pytest.mark.parametrize(("said", "check"), [("", PartyCheck.OFF), *((f"parties: {one}\n", one) for one in PartyCheck)])
def test_parties(tmp_path: Path, said: str, check: PartyCheck) -> None:
    """What a channel does with messages that their party may not send; off is a word here, not a flag."""
    (channel,) = load(site(tmp_path, CHANNEL + said)).channels
    assert channel.parties is check
    assert "| `parties` | refuse \\| flag \\| off | `off` |" in manual()


def test_each_content_type_of_a_source_is_read_by_its_own_codec(tmp_path: Path) -> None:
    """An archive emits instances and studies: a filter over an attribute holds for both."""
    text = "name: images\nsource:\n  dicom_archive: {folder: dicom}\nfilter: [\"message['Modality'] == 'CT'\"]\ndestinations:\n  - name: all\n    mllp: {connect: \"h:1\"}\n"
    (channel,) = load(site(tmp_path, text)).channels
    study = b'[{"00080060":{"vr":"CS","Value":["%s"]}}]'
    plans = [channel.program.plan(Envelope(study % modality, DICOM_JSON)) for modality in (b"CT", b"MR")]
    assert [plan.status for plan in plans] == [Status.QUEUED, Status.FILTERED]
    instance = b"\x08\x00\x60\x00CS\x02\x00CT"
    assert channel.program.plan(Envelope(instance, DICOM)).status is Status.QUEUED
