"""Point-of-care devices: documents cut from a stream, the conversation by its table, what is refused (POCT1-A2)."""

from __future__ import annotations

from typing import Any, ClassVar
from xml.etree.ElementTree import Element, fromstring

import pytest
from twisted.trial.unittest import SynchronousTestCase

from adapters.poct1a import adapter
from adapters.poct1a.conversation import Conversation, End, Fault, Keep, Say, State
from adapters.poct1a.framing import LONGEST_TAG, Poct1aFramer
from engine.errors import FramingError, ParseError
from engine.formats.poct1a import codec, parse
from engine.message import POCT1A, Verdict
from tests.contracts.framer_contract import FramerContract
from tests.support.poct1a_device import ACK, END, END_OF_TOPIC, KEEP_ALIVE, STATUS, hello, observations

NOW = "2026-11-24T08:00:05+08:00"


class Poct1aFramerTests(FramerContract, SynchronousTestCase):
    payloads: ClassVar[list[bytes]] = [b"<a/>", hello(), observations()]
    cannot_be_wrapped: ClassVar[list[bytes]] = [b"hello"]

    def make(self) -> Poct1aFramer:
        return Poct1aFramer()

    def payload(self, frame: Any) -> bytes:
        return bytes(frame)


@pytest.mark.parametrize(
    "document",
    [
        hello(),
        b'<?xml version="1.0" encoding="utf-8"?>\n<!-- </A> --><A b="1 > 0"><B/><![CDATA[</A>]]><A></A></A >',
        b"<KPA.R01/>",
        "<?xml version='1.0' encoding='gb18030'?><A v='王倈俕'/>".encode("gb18030"),
    ],
)
def test_a_document_ends_with_its_root(document: bytes) -> None:
    """However it is cut, and whatever follows."""
    for stream in (document, document + b"\r\n" + document):
        framer = Poct1aFramer()
        found = [one for at in range(len(stream)) for one in framer.feed(stream[at : at + 1])]
        assert found == [document] * (stream.count(document))
    assert Poct1aFramer().feed(document + b"\n" + hello()) == [document, hello()]


@pytest.mark.parametrize(
    "stream",
    [
        b"hello",
        b"\x05",
        b"</A>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a/>',
        b"<a>" * 100,
        b'<a b="' + b"x" * (LONGEST_TAG + 10),
        b"<a><b></b>" + b"<!-- " + b"x" * 5_000_000,
    ],
)
def test_what_is_no_document(stream: bytes) -> None:
    with pytest.raises(FramingError):
        Poct1aFramer().feed(stream)


@pytest.mark.parametrize(
    "document",
    [
        b'<?xml version="1.0" encoding="utf-16"?><a/>',
        b'<a b="\xff"/>',
        b"<a><b></a></b>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b"<a>" * 40 + b"</a>" * 40,
    ],
)
def test_what_cannot_be_read(document: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse(document)
    assert "xff" not in str(caught.value)


def test_a_message_answers_paths_and_loses_nothing() -> None:
    body = hello() + b"\n" + observations()
    message = codec.decode(body)
    assert message.encode() == body
    assert [message.get(path) for path in ("OBS.value", "OBS.value@U", "PT.patient_id", "DEV.serial_id", "ORD.order_id")] == [
        "95", "mg/dL", "P1", "S77", None,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="OBS value"):
        codec.check_path("OBS value")


# --- the conversation --------------------------------------------------------------------------------


class Talk:
    def __init__(self, *, continuous: bool = False, set_time: bool = False) -> None:
        self.conversation = Conversation(continuous=continuous, set_time=set_time)
        self.steps: list[Any] = []

    def hear(self, document: bytes | str) -> list[str]:
        """What is said to it: the kind, and of an ACK its code."""
        if isinstance(document, str):
            document = document.format(number=5).encode()
        return self.words(self.conversation.heard(fromstring(document), NOW))

    def words(self, steps: list[Any]) -> list[str]:
        self.steps = steps
        return [word(fromstring(step.document)) if isinstance(step, Say) else type(step).__name__ for step in steps]


def word(root: Element) -> str:
    code = root.find("ACK/ACK.type_cd")
    command = root.find(".//DTV.command_cd")
    found = code if code is not None else command
    return f"{root.tag} {found.get('V')}" if found is not None else root.tag


def test_a_basic_conversation() -> None:
    talk = Talk()
    assert talk.hear(hello()) == ["ACK.R01 AA"]
    assert talk.hear(STATUS) == ["ACK.R01 AA", "REQ.R01"]
    assert talk.hear(observations()) == ["Keep"]
    assert talk.words(talk.conversation.kept("3", "", NOW)) == ["ACK.R01 AA"]
    assert talk.hear(END_OF_TOPIC) == ["ACK.R01 AA", "END.R01"]
    number = fromstring(talk.steps[-1].document).find("HDR/HDR.control_id").get("V")  # type: ignore[union-attr]
    assert talk.hear(ACK.format(number=9, code="AA", of=number)) == ["End"]
    assert talk.conversation.state is State.ENDED
    assert talk.hear(observations()) == []


def test_continuous_mode() -> None:
    """After the first topic the device sends what it has when it has it, and is not asked again."""
    talk = Talk(continuous=True)
    talk.hear(hello())
    talk.hear(STATUS)
    assert talk.hear(END_OF_TOPIC) == ["ACK.R01 AA", "DTV.R01 START_CONTINUOUS"]
    assert talk.hear(STATUS) == ["ACK.R01 AA"]
    assert talk.hear(observations()) == ["Keep"]
    assert talk.hear(END_OF_TOPIC) == ["ACK.R01 AA"]
    assert talk.hear(END) == ["ACK.R01 AA", "End"]


def test_one_message_of_ours_waits_for_its_ack() -> None:
    """The clock is set first; the request goes out when that was acknowledged."""
    talk = Talk(set_time=True)
    talk.hear(hello())
    assert talk.hear(STATUS) == ["ACK.R01 AA", "DTV.R02 SET_TIME"]
    assert NOW.encode() in talk.steps[-1].document
    number = fromstring(talk.steps[-1].document).find("HDR/HDR.control_id").get("V")  # type: ignore[union-attr]
    assert talk.hear(ACK.format(number=9, code="AA", of="999")) == []
    assert talk.hear(ACK.format(number=9, code="AE", of=number)) == ["Fault", "REQ.R01"]


def test_numbers_of_ours_rise() -> None:
    talk = Talk()
    numbers = []
    for document in (hello(), STATUS, KEEP_ALIVE):
        talk.hear(document)
        numbers += [int(fromstring(step.document).find("HDR/HDR.control_id").get("V") or 0) for step in talk.steps]  # type: ignore[union-attr]
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize("document", [STATUS, observations(), END_OF_TOPIC, KEEP_ALIVE])
def test_before_hello_nothing_is_taken(document: bytes | str) -> None:
    assert Talk().hear(document) == ["Fault", "ACK.R01 AE"]


def test_an_unknown_message_is_answered_with_an_error_and_ends_nothing() -> None:
    talk = Talk()
    talk.hear(hello())
    assert talk.hear('<XYZ.R01><HDR><HDR.control_id V="4"/></HDR></XYZ.R01>') == ["Fault", "ACK.R01 AE"]
    assert talk.hear(observations()) == ["Keep"]


def test_what_is_not_kept_is_answered_with_the_reason() -> None:
    """Escaped, whatever it says."""
    talk = Talk()
    talk.hear(hello())
    talk.hear(observations())
    steps = talk.conversation.kept("3", 'no "<room>"', NOW)
    assert talk.words(steps) == ["Fault", "ACK.R01 AE"]
    assert fromstring(steps[1].document).find("ACK/ACK.note_txt").get("V") == 'no "<room>"'  # type: ignore[union-attr]
    assert [type(step) for step in steps] == [Fault, Say]


def test_a_device_that_begins_again_is_greeted_again() -> None:
    talk = Talk(continuous=True)
    for _ in range(2):
        assert talk.hear(hello()) == ["ACK.R01 AA"]
        assert talk.hear(STATUS) == ["ACK.R01 AA", "REQ.R01"]
        assert talk.hear(END_OF_TOPIC)[-1] == "DTV.R01 START_CONTINUOUS"


def test_steps_are_named() -> None:
    assert {Keep("1"), Keep("1")} == {Keep("1")}
    assert End() == ()


# --- envelopes ---------------------------------------------------------------------------------------


def rehearsed(body: bytes) -> Any:
    return adapter.rehearse(adapter.source_options.defaults(listen="1"), body, "")


def test_an_envelope_names_device_and_patient() -> None:
    envelope, fault = rehearsed(hello() + observations())
    assert fault is None
    assert (envelope.content_type, envelope.message_type, envelope.control_id) == (POCT1A, "OBS.R01", "3")
    assert (envelope.sender, envelope.patient_ids) == ("ACME^Glu-1^S77", ("P1",))


def test_the_same_observations_with_another_header_are_the_same() -> None:
    """A device that did not hear our answer sends them again, with another control id; those of another device are others."""
    keys = [rehearsed(body)[0].idempotency_key for body in (
        hello() + observations(3), hello() + observations(9), hello(1, "S78") + observations(3),
    )]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_what_cannot_be_read_is_invalid() -> None:
    _, fault = rehearsed(b"<OBS.R01>")
    assert fault.verdict is Verdict.INVALID
