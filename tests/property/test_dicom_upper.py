"""Any chunking of the same bytes gives the same messages; any bytes at all give steps, never an error of ours."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dicom.instances import read_facts, read_file_facts
from adapters.dicom.upper import dimse, pdu
from adapters.dicom.upper.association import Aborted, Association
from adapters.dicom.upper.messages import Began, Ended, Part
from adapters.dicom.upper.negotiation import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from adapters.dicom.upper.states import State
from engine.errors import FramingError
from tests.support.dicom import CT, associate_pdu, data_set, established, store_request

SYNTAXES = st.sampled_from((IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE))


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[a:b] for a, b in pairwise(at)]


def heard(association: Association, chunks: list[bytes]) -> list[Any]:
    """Steps, with the parts of one data set put together."""
    steps: list[Any] = []
    for chunk in chunks:
        for step in association.feed(chunk):
            if isinstance(step, Part):
                if steps and isinstance(steps[-1], bytes):
                    steps[-1] += bytes(step.data)
                else:
                    steps.append(bytes(step.data))
            else:
                steps.append(step)
    return steps


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(128, 400), st.lists(st.integers(0, 5000), max_size=30))
def test_any_chunking_gives_the_same_messages(contents: list[bytes], length: int, places: list[int]) -> None:
    """Fragments of any length, an A-RELEASE-RQ at the end."""
    near, far = established()
    assert near.accept is not None
    object.__setattr__(near.accept, "max_length", length)
    raw, expected = b"", []
    for number, content in enumerate(contents, 1):
        command = dimse.Command({**store_request(), "MessageID": number, "CommandDataSetType": 1})
        buffers = near.send(1, dimse.encode(command), is_command=True) + near.send(1, content, is_command=False)
        raw += b"".join(bytes(one) for one in buffers)
        expected += [Began(1, command), *([content] if content else []), Ended()]
    raw += pdu.encode(pdu.ReleaseRequest())
    assert heard(far, cut(raw, places)) == [*expected, pdu.ReleaseRequest()]
    assert not far.inside


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(list(State)), st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_in_any_state_give_steps(garbage: bytes, state: State, places: list[int]) -> None:
    """Never an exception, whatever a peer sends, whenever."""
    _, far = established()
    if state not in (State.Sta1, State.Sta4):
        far.machine.state = state
        heard(far, cut(garbage, places))
        far.lost()


@settings(max_examples=300)
@given(st.data())
def test_a_good_request_with_bytes_changed(data: st.DataObject) -> None:
    """An A-ASSOCIATE-RQ that is nearly one: understood, or aborted."""
    raw = bytearray(associate_pdu())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(6, len(raw) - 1))] = data.draw(st.integers(0, 255))
    association = Association(requestor=False)
    association.connected()
    steps = heard(association, [bytes(raw)])
    assert association.state in (State.Sta3, State.Sta13)
    assert any(isinstance(step, pdu.AssociateRequest | Aborted) for step in steps) or association.state is State.Sta13


@given(st.binary(max_size=300))
def test_command_sets_are_read_or_refused(raw: bytes) -> None:
    try:
        command = dimse.decode(raw)
    except FramingError:
        return
    assert command.field in set(dimse.Field)


@given(
    st.fixed_dictionaries(
        {
            "MessageID": st.integers(0, 65535),
            "CommandField": st.sampled_from(list(dimse.Field)).map(int),
            "CommandDataSetType": st.integers(0, 65535),
        },
        optional={
            "Status": st.integers(0, 65535),
            "ErrorComment": st.text("abcdefg hij", min_size=1, max_size=60).map(str.strip).filter(bool),
            "AffectedSOPInstanceUID": st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,9}){0,5}", fullmatch=True),
            "AttributeIdentifierList": st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=5).map(tuple),
        },
    )
)
def test_command_sets_come_back(command: dict[str, Any]) -> None:
    """Decode after encode."""
    assert dimse.decode(dimse.encode(command)) == command


@settings(max_examples=300)
@given(st.binary(max_size=400), SYNTAXES)
def test_facts_of_anything(raw: bytes, syntax: str) -> None:
    """What is no data set has no facts, and raises nothing."""
    read_facts(raw, syntax)
    read_file_facts(raw)
    read_file_facts(bytes(128) + b"DICM\2\0\0\0UL\4\0" + raw)


@given(st.integers(0, 400))
def test_facts_of_what_is_cut_off(length: int) -> None:
    """As far as the bytes go."""
    whole = read_facts(data_set(), EXPLICIT_LE)
    part = read_facts(data_set()[:length], EXPLICIT_LE)
    for name in ("sop_class", "sop_instance", "patient_id", "study_uid"):
        assert getattr(part, name) in ("", getattr(whole, name))
    assert whole.sop_class == CT
