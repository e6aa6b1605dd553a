"""Whatever bytes come, a message of them is kept and answered: no exception leaves the way from a frame to its answer."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.mllp import adapter
from adapters.mllp.framing import END, START, MllpFramer
from adapters.mllp.intake import Reader
from engine.formats.hl7v2 import acknowledgment
from engine.message import ACCEPTED, Ack, Judgement, Verdict
from tests.support.mllp import Listening, message, msa

JUDGEMENTS = [
    ACCEPTED,
    Judgement(Verdict.REFUSED, "nicht hier: Prüfung|^~\\&", "200", "MSH-9"),
    Judgement(Verdict.INVALID, "no", "101", "PID[1]-3[2].1.1"),
    Judgement(Verdict.UNAVAILABLE, "later", "207", "?"),
]
CHARSETS = ["", "UNICODE UTF-8", "GB 18030-2000", "8859/1", "ISO IR87", "ISO IR87~ISO IR6", "~", "UNICODE", "nonsense", "\\", "^"]
PIECES = st.sampled_from(
    [b"MSH", b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"PID|", b"\x1b$B", b"\x1b(B", b"\xef\xbb\xbf", b"\xff\xfe", b"\x81\x30\x81\x30", b"\x00"]
)  # fmt: skip


def garbled() -> st.SearchStrategy[bytes]:
    """A good message of which some bytes were changed."""
    good = st.builds(
        lambda charset, accept, application, version: message(msh18=charset, msh15=accept, msh16=application, version=version),
        st.sampled_from(CHARSETS),
        st.sampled_from(["", "AL", "NE", "ER", "SU", "??"]),
        st.sampled_from(["", "AL", "NE", "ER", "SU", "é"]),
        st.sampled_from(["", "2.1", "2.5", "2.9", "2.5^CHN", "x"]),
    )
    changes = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), PIECES | st.binary(max_size=3)), max_size=5)
    return st.builds(_changed, good, changes)


def _changed(content: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, gone, new in changes:
        place = at % (len(content) + 1)
        content = content[:place] + new + content[place + gone :]
    return content


CONTENT = garbled() | st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=200)
CONTENT = CONTENT.filter(lambda content: START not in content and END not in content)
OPTIONS = st.fixed_dictionaries({
    "charset": st.sampled_from(["declared", "UNICODE UTF-8", "GB 18030-2000"]),
    "fallback": st.sampled_from([None, "GB 18030-2000", "8859/1"]),
})  # fmt: skip


@given(CONTENT, OPTIONS)
@example(b"MSH|^~\\&|", {})
def test_each_message_has_an_answer_that_can_be_read(content: bytes, options: dict[str, str | None]) -> None:
    """For each judgement: the acknowledgment is one, by its own rules, and says the control id of the message if that is known."""
    chosen = {name: value for name, value in options.items() if value is not None}
    reader = Reader(adapter.source_options.defaults(listen=2575, **chosen), lambda: 0, lambda: "A1")
    for received in (reader.read(content, "", "h:1"), reader.broken(content, JUDGEMENTS[2], "", "h:1")):
        assert received.envelope.body == content
        for judgement in JUDGEMENTS:
            reply = received.reply(judgement)
            read = acknowledgment.read(reply)
            assert read.positive is (judgement is ACCEPTED and received.header is not None)
            if received.header is not None:
                assert received.header.control_id.encode(received.header.codec) in reply
                if received.header.codec == "ascii":
                    assert read.control_id == received.header.control_id
            MllpFramer.wrap(reply)
            for answer in received.answers(Ack(judgement, reply, 1)):
                acknowledgment.read(answer)


@given(st.lists(CONTENT, max_size=4))
def test_a_connection_survives_any_content(contents: list[bytes]) -> None:
    """What can be framed is handed to the intake, all of it, and whoever comes next on the same connection is served."""
    line = Listening()
    line.send(*contents, message("last"))
    assert msa(line.heard()[-1]) == "AA|last"
