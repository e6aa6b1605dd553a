"""Store requests and hostile clients, on a wire in memory: what is answered, what is kept, how much is held."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from adapters.dicom.web.store import AT_ONCE, StoreRequest, Taking
from engine.formats.multipart import MultipartFramer
from engine.http_answers import Sender
from engine.http_server import LEAST
from engine.message import BodyRef, Judgement, Verdict
from tests.contracts.source_contract import HeldIntake
from tests.support.dicom_instances import STUDY, instance, uid
from tests.support.dicomweb import BOUNDARY, AnsweringIntake, FullSpool, body, context, request, source
from tests.support.mllp import Transport

REFUSED = Judgement(Verdict.REFUSED, "not for this channel")
UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "the message store cannot take messages now")


class Wire:
    """A source that does not listen, with connections in memory; `intake` answers at once. Threads are run in place."""

    def __init__(self, data: Path, spool=None, intake=None, **options):
        self.clock, self.audited = Clock(), []
        audit = lambda event, **facts: self.audited.append((event, facts))  # noqa: E731
        made = context(data, self.clock, audit=audit, **({"spool": spool} if spool else {}))
        self.clock.listenTCP = lambda *_, **__: SimpleNamespace(stopListening=lambda: None)
        self.source = source(data, self.clock, made, **options)
        self.source._reception.in_thread = run_here
        self.source._reception._pool = SimpleNamespace(start=lambda: None, stop=lambda: None, joined=True)
        self.intake = intake or AnsweringIntake()
        self.source.start(self.intake)
        self.spool = data / "spool"

    def connect(self, host="10.0.0.9"):
        connection = self.source._reception._server.buildProtocol(None)
        transport = Transport(peerAddress=IPv4Address("TCP", host, 4444))
        connection.makeConnection(transport)
        return connection, transport

    def send(self, *chunks, host="10.0.0.9"):
        """Everything that is answered to these bytes over a connection of their own."""
        connection, transport = self.connect(host)
        for chunk in chunks:
            connection.dataReceived(chunk)
        self.clock.advance(0)
        return answers(transport)

    def spooled(self):
        return list(self.spool.iterdir())


def run_here(function, *arguments):
    from twisted.internet.defer import execute

    return execute(function, *arguments)


def answers(transport):
    """Status and body of each answer; a pull producer is asked for all that it has."""
    for _ in range(10_000):
        if transport.producer is None:
            break
        transport.producer.resumeProducing()
    found, rest = [], transport.value()
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        size = int(length[1]) if length else 0
        found.append((int(head.split()[1]), rest[:size], head.decode()))
        rest = rest[size:]
    return found


@pytest.fixture
def wire(tmp_path):
    return Wire(tmp_path)


def reasons(answer):
    """SOP Instance UID -> failure reason, and those of parts without a UID."""
    said = json.loads(answer[1])
    failed = {one["00081155"]["Value"][0]: one["00081197"]["Value"][0] for one in said.get("00081198", {}).get("Value", ())}
    return failed, [one["00081197"]["Value"][0] for one in said.get("0008119A", {}).get("Value", ())]


def stored(answer):
    return [one["00081155"]["Value"][0] for one in json.loads(answer[1]).get("00081199", {}).get("Value", ())]


# --- what becomes of instances -----------------------------------------------------------------------


def test_small_instances_stay_in_memory_and_large_ones_go_to_the_spool(wire):
    """Each is a message with the bytes exactly as they came."""
    small, large = instance(1), instance(2, pixels=262144)
    ((status, *_),) = wire.send(request("/dicom-web/studies", body(small, large)))
    assert status == 200
    first, second = wire.intake.kept
    assert first.body == small
    assert isinstance(second.body, BodyRef)
    assert (wire.spool / second.body.digest).read_bytes() == large
    assert (first.content_type, first.message_type, first.control_id) == ("application/dicom", "CTImageStorage", uid(1))
    assert (first.idempotency_key, first.patient_ids, first.remote) == (uid(1), ("P1",), "10.0.0.9:4444")
    assert first.facts["study_uid"] == STUDY
    assert first.facts["modality"] == "CT"


def test_one_instance_alone(wire):
    """A body that is application/dicom itself."""
    (answer,) = wire.send(request(f"/dicom-web/studies/{STUDY}", instance(1), "application/dicom"))
    assert (answer[0], stored(answer)) == (200, [uid(1)])


def test_an_instance_of_another_study(wire):
    """409 where it is the only one, 202 beside others; it is kept, refused (PS3.18 10.5.2)."""
    other = instance(2, StudyInstanceUID="1.2.3")
    (answer,) = wire.send(request(f"/dicom-web/studies/{STUDY}", body(other)))
    assert (answer[0], reasons(answer)) == (409, ({uid(2): 0xC409}, []))
    (answer,) = wire.send(request(f"/dicom-web/studies/{STUDY}", body(instance(1), other)))
    assert (answer[0], stored(answer), reasons(answer)[0]) == (202, [uid(1)], {uid(2): 0xC409})
    assert [one.verdict if one else None for one in wire.intake.invalid] == [Verdict.REFUSED, None, Verdict.REFUSED]


def test_what_is_no_instance_is_kept_and_said(wire):
    """It goes into quarantine, and the others are stored."""
    (answer,) = wire.send(request("/dicom-web/studies", body(b"GIF89a", instance(1), instance(2)[:200])))
    assert answer[0] == 202
    assert stored(answer) == [uid(1)]
    assert reasons(answer)[1] == [0xC000, 0xC000]
    assert [one is None for one in wire.intake.invalid] == [False, True, False]


def test_parts_of_other_types_are_failures(wire):
    """Metadata beside instances, a transfer encoding: nothing of them becomes a message."""
    mixed = body(instance(1)).replace(b"--" + BOUNDARY.encode() + b"--", b"") + body(b"[]", kind="application/dicom+json")
    (answer,) = wire.send(request("/dicom-web/studies", mixed))
    assert (answer[0], stored(answer), reasons(answer)[1]) == (202, [uid(1)], [0xC000])
    assert len(wire.intake.kept) == 1
    encoded = body(b"AAAA").replace(b"Content-Type", b"Content-Transfer-Encoding: base64\r\nContent-Type")
    (answer,) = wire.send(request("/dicom-web/studies", encoded))
    assert answer[0] == 400


def test_verdicts_in_the_words_of_the_standard(tmp_path):
    """A channel that refuses, a store that is full for one, for all."""
    wire = Wire(tmp_path, intake=AnsweringIntake(**{"2": REFUSED, "3": UNAVAILABLE}))
    (answer,) = wire.send(request("/dicom-web/studies", body(instance(1), instance(2), instance(3))))
    assert (answer[0], reasons(answer)[0]) == (202, {uid(2): 0x0124, uid(3): 0xA700})
    assert "not for this channel" in answer[2]
    (answer,) = wire.send(request("/dicom-web/studies", body(instance(3))))
    assert answer[0] == 503
    assert "Retry-After" in answer[2]


def test_a_full_spool_is_a_failure_of_that_instance(tmp_path):
    """Small ones still fit; the UIDs of the large are said although nothing of them was kept."""
    wire = Wire(tmp_path, spool=FullSpool)
    (answer,) = wire.send(request("/dicom-web/studies", body(instance(1, pixels=131072), instance(2))))
    assert (answer[0], stored(answer), reasons(answer)[0]) == (202, [uid(2)], {uid(1): 0xA700})


def test_an_instance_that_is_too_large(tmp_path):
    """Nothing of it stays."""
    wire = Wire(tmp_path, most_instance="100KB")
    (answer,) = wire.send(request("/dicom-web/studies", body(instance(1, pixels=262144), instance(2))))
    assert (answer[0], reasons(answer)[0]) == (202, {uid(1): 0xA700})
    assert wire.spooled() == []


def test_the_answer_is_xml_where_that_is_wanted(wire):
    """And 406 where neither is, before anything is read."""
    ((status, text, head),) = wire.send(request("/dicom-web/studies", body(instance(1)), Accept="application/dicom+xml"))
    assert status == 200
    assert b"<NativeDicomModel" in text
    assert "application/dicom+xml" in head
    ((status, *_),) = wire.send(request("/dicom-web/studies", body(instance(1)), Accept="text/html"))
    assert status == 406
    assert len(wire.intake.kept) == 1


# --- bodies that are not what they should be --------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b', 415),
        ("multipart/form-data; boundary=b", 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary="' + "x" * 201 + '"', 400),
        ("multipart/related; type=", 415),
        ("nonsense", 400),
    ],
)
def test_media_types_that_are_not_taken(wire, content_type, status):
    """Said before the body is read; the connection ends, since the body may be huge."""
    ((heard, _, head),) = wire.send(request("/dicom-web/studies", body(instance(1)), content_type))
    assert heard == status
    assert "Connection: close" in head
    assert wire.intake.kept == []


def test_a_content_coding_is_not_taken(wire):
    """415."""
    ((status, *_),) = wire.send(request("/dicom-web/studies", b"", Content_Encoding="gzip"))
    assert status == 415


def test_a_body_without_its_end(wire):
    """What was complete is stored, what was cut is not, and the client hears both."""
    content = body(instance(1), instance(2, pixels=262144))[:-1000]
    (answer,) = wire.send(request("/dicom-web/studies", content))
    assert (answer[0], stored(answer), reasons(answer)[1]) == (202, [uid(1)], [0xC000])
    assert len(wire.intake.kept) == 1
    assert wire.spooled() == []


def test_a_body_that_breaks_in_the_middle_is_answered_at_once(wire):
    """Without waiting for the rest; the connection ends."""
    connection, transport = wire.connect()
    content = body(instance(1)).removesuffix(b"--\r\n") + b"garbage"
    connection.dataReceived(request("/dicom-web/studies", content, Content_Length="100000000"))
    (answer,) = answers(transport)
    assert (answer[0], stored(answer)) == (202, [uid(1)])
    assert "Connection: close" in answer[2]
    connection.dataReceived(b"x" * 100_000)  # is read and dropped
    wire.clock.advance(2.0)
    assert transport.aborted


def test_no_instance_at_all(wire):
    """400, and nothing is kept."""
    for content in (b"", b"--" + BOUNDARY.encode() + b"--\r\n"):
        ((status, *_),) = wire.send(request("/dicom-web/studies", content))
        assert status == 400
    ((status, *_),) = wire.send(request("/dicom-web/studies", b"", "application/dicom"))
    assert status == 400
    assert wire.intake.kept == []


def test_a_request_that_is_too_large(tmp_path):
    """413 before it begins where it says so, otherwise as soon as it is."""
    wire = Wire(tmp_path, most_request="64KB")
    ((status, *_),) = wire.send(request("/dicom-web/studies", b"", Content_Length="1000000"))
    assert status == 413
    head = request("/dicom-web/studies", b"", Content_Length="", Transfer_Encoding="chunked")
    (answer,) = wire.send(head, b"fffff\r\n" + body(instance(1)), b"x" * 100_000)
    assert (answer[0], stored(answer), reasons(answer)[1]) == (202, [uid(1)], [0xA700])
    assert "65536 bytes" in answer[2]


def test_too_many_parts(tmp_path):
    """Those before it are stored."""
    wire = Wire(tmp_path, most_parts=2)
    (answer,) = wire.send(request("/dicom-web/studies", body(*map(instance, range(1, 5)))))
    assert (answer[0], stored(answer)) == (202, [uid(1), uid(2)])


# --- the wire ----------------------------------------------------------------------------------------


def test_a_chunked_request_that_asks_before_it_sends(wire):
    """100 Continue, and chunks of any size."""
    connection, transport = wire.connect()
    connection.dataReceived(request("/dicom-web/studies", b"", Content_Length="", Transfer_Encoding="chunked", Expect="100-continue"))
    assert transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    transport.clear()
    content = body(instance(1), instance(2, pixels=131072))
    for at in range(0, len(content), 5000):
        piece = content[at : at + 5000]
        connection.dataReceived(b"%x\r\n%b\r\n" % (len(piece), piece))
    connection.dataReceived(b"0\r\n\r\n")
    (answer,) = answers(transport)
    assert stored(answer) == [uid(1), uid(2)]


def test_what_is_refused_is_not_asked_to_be_sent(wire):
    """415 instead of 100 Continue."""
    (answer,) = wire.send(request("/dicom-web/studies", b"", "text/plain", Content_Length="1000", Expect="100-continue"))
    assert answer[0] == 415


def test_pipelined_requests_are_answered_in_their_order(wire):
    """Store requests and reads on one connection; a refusal comes after the answers before it."""
    options = b"OPTIONS /dicom-web/studies HTTP/1.1\r\nHost: h\r\n\r\n"
    chunks = [request("/dicom-web/studies", body(instance(1))), options, request("/dicom-web/studies", body(instance(2)))]
    assert [one[0] for one in wire.send(b"".join(chunks))] == [200, 204, 200]
    assert [one[0] for one in wire.send(*chunks, b"\0\r\n\r\n")] == [200, 204, 200, 400]


def test_the_wire_waits_when_much_is_under_way(tmp_path):
    """As many commits as `AT_ONCE`; then the client is not read, and goes on when one has ended."""
    intake = HeldIntake()
    wire = Wire(tmp_path, intake=intake)
    connection, transport = wire.connect()
    content = body(*map(instance, range(1, AT_ONCE + 3)))
    head = request("/dicom-web/studies", b"", Content_Length=str(len(content)))
    one = len(body(instance(1))) - len(BOUNDARY) - 6
    connection.dataReceived(head + content[: one * AT_ONCE + 30])
    assert transport.producerState == "paused"
    for index in range(AT_ONCE):
        intake.release(index)
    assert transport.producerState == "producing"
    connection.dataReceived(content[one * AT_ONCE + 30 :])
    for index in (AT_ONCE, AT_ONCE + 1):
        intake.release(index)
    (answer,) = answers(transport)
    assert stored(answer) == [uid(number) for number in range(1, AT_ONCE + 3)]


def test_a_client_that_goes_away(tmp_path):
    """The instance that was complete is kept; of the other nothing stays; another may come at once."""
    intake = HeldIntake()
    wire = Wire(tmp_path, intake=intake, requests=1)
    connection, _ = wire.connect()
    connection.dataReceived(request("/dicom-web/studies", body(instance(1), instance(2, pixels=262144))[:-1000], Content_Length="9999999"))
    assert len(wire.spooled()) == 1
    connection.connectionLost()
    assert wire.spooled() == []
    intake.release(0)
    assert [one.control_id for one in intake.kept] == [uid(1)]
    assert wire.source._reception._admission.under_way == 0


def test_a_body_that_does_not_go_on(wire):
    """408; one that does may take as long as it wants."""
    connection, transport = wire.connect()
    connection.dataReceived(request("/dicom-web/studies", b"--" + BOUNDARY.encode(), Content_Length="99999999"))
    connection.dataReceived(b"\r\n\r\n" + bytes(LEAST))
    for _ in range(10):
        wire.clock.advance(59)
        assert transport.value() == b""
        connection.dataReceived(bytes(LEAST))
    wire.clock.advance(60)
    connection.dataReceived(b"x")
    wire.clock.advance(60)
    assert answers(transport)[0][0] == 408
    wire.clock.advance(2)
    assert transport.aborted
    assert wire.spooled() == []


def test_a_head_that_does_not_end(wire):
    """408 however its bytes are spread; 431 where it is too long; a silent connection is closed."""
    connection, transport = wire.connect()
    connection.dataReceived(b"GET /dicom-web/studies HTTP/1.1\r\n")
    for _ in range(6):
        wire.clock.advance(10)
        connection.dataReceived(b"a: b\r\n")
    assert answers(transport)[0][0] == 408
    assert wire.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)[0][0] == 431
    _, silent = wire.connect()
    wire.clock.advance(300)
    assert silent.disconnecting


def test_too_much_at_once(tmp_path):
    """503 for the server, 429 for one sender, 503 for connections."""
    wire = Wire(tmp_path, intake=HeldIntake(), requests=2, requests_per_peer=1, connections=4)
    head = request("/dicom-web/studies", b"", Content_Length="1000")
    wire.connect()[0].dataReceived(head)
    assert wire.send(head)[0][0] == 429
    wire.connect("10.0.0.8")[0].dataReceived(head)
    assert wire.send(head, host="10.0.0.7")[0][0] == 503
    _, fifth = wire.connect("10.0.0.6")
    assert answers(fifth)[0][0] == 503


def test_stop_in_the_middle_of_a_request(wire):
    """What was complete is answered for; the rest is not wanted, and the intake hears of nothing more."""
    connection, transport = wire.connect()
    content = body(instance(1), instance(2))
    connection.dataReceived(request("/dicom-web/studies", b"", Content_Length=str(len(content))) + content[:-200])
    stopped = []
    wire.source.stop().addCallback(stopped.append)
    connection.dataReceived(content[-200:])
    wire.clock.advance(0)
    wire.clock.advance(0)
    answer = answers(transport)[0]
    assert (answer[0], stored(answer)) == (202, [uid(1)])
    assert [one.control_id for one in wire.intake.kept] == [uid(1)]
    assert stopped == [None]


def test_memory_does_not_grow_with_the_instance(tmp_path):
    """A gigabyte goes by, and what is held is a head and a few blocks."""

    class Counting:
        def __init__(self):
            self.size = 0

        def write(self, data):
            self.size += len(data)

        def finish(self):
            return BodyRef("0" * 64, self.size)

    spool = Counting()
    intake = AnsweringIntake()
    made = SimpleNamespace(spool=lambda: spool, clock=lambda: 1, log=None, name="c")
    taking = Taking(made, intake, run_here, lambda: False, 1 << 40, 1 << 40)
    upload = StoreRequest(taking, "", MultipartFramer(BOUNDARY), Sender("", "h:1"), lambda outcomes, cut: (outcomes, cut))
    first = body(instance(1, pixels=131072)).removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode())
    upload.content(first)
    block, count = bytes(65536), 16384
    for _ in range(count):
        upload.content(block)
    assert len(upload._framer._buffer) < 100
    assert not upload._part.memory
    upload.content(f"\r\n--{BOUNDARY}--\r\n".encode())
    heard = []
    upload.ended().addCallback(heard.append)
    ((outcome,), cut) = heard[0]
    assert (outcome.sop_uid, outcome.reason, cut) == (uid(1), 0, False)
    assert intake.kept[0].body.size == spool.size > count * len(block)
