"""C-FIND, C-MOVE and C-GET over wires that the test carries: limits, cancels, audit, identifiers at fault, partial failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from adapters.dicom.archive import identifiers
from adapters.dicom.archive.charset import UNICODE
from adapters.dicom.archive.encoding import encode_elements
from adapters.dicom.archive.index import Held
from adapters.dicom.archive.options import QUERY
from adapters.dicom.archive.services import FIND, GET, MOVE, TRANSFER_SYNTAXES, QueryRetrieve
from adapters.dicom.archive.suboperations import Counts, contexts_of, runs
from adapters.dicom.upper import dimse
from adapters.dicom.upper.acceptor import Acceptor
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.exchange import Gathered, Request, Response
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE, Offer, Taken
from adapters.dicom.upper.pdu import Roles
from adapters.dicom.upper.protocol import Times
from adapters.dicom.upper.requestor import Proposal
from engine.errors import ParseError, UnsupportedError
from tests.support.dicom import Host, Pair
from tests.support.dicom_archive import CT, TEST_FILES, Archive, context, instance

PATIENT_FIND, STUDY_FIND = FIND
_, STUDY_MOVE = MOVE
_, STUDY_GET = GET


def keys(level: str | None = "STUDY", explicit: bool = True, **tags: Any) -> bytes:
    """An identifier: ``T0020000D=("UI", "1.2")``."""
    elements: dict[str, Any] = {"00080052": {"vr": "CS", "Value": [level]}} if level else {}
    for tag, (vr, *values) in tags.items():
        elements[tag[1:]] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return encode_elements(elements, UNICODE, explicit=explicit)


class Peer:
    """An SCU of an archive, with its own C-STORE SCP for C-GET: `stored` are the data sets that it took."""

    def __init__(self, folder: Path, *, takes: tuple[str, ...] = (EXPLICIT_LE,), storage: str = CT, **options: Any) -> None:
        self.archive = Archive(folder / "dicom")
        self.audited: list[Any] = []
        self.why_not = ""
        ambient = replace(context(Clock(), folder, audited=self.audited), unaudited=lambda: self.why_not)
        self.run: Callable[..., Deferred[Any]] = maybeDeferred
        self.service = QueryRetrieve(QUERY.defaults(**options), ambient, lambda *call: self.run(*call))  # noqa: PLW0108  it changes
        self.stored: list[str] = []
        self.data: list[bytes] = []
        self.statuses: list[int] = []
        self.pair = self._joined(takes, storage)

    def _joined(self, takes: tuple[str, ...], storage: str) -> Pair:
        def taken(uid: str) -> Taken | None:
            return Taken(TRANSFER_SYNTAXES) if uid in self.service.services else Taken(scp=True) if uid == storage else None

        clock = Clock()
        contexts = [(uid, [EXPLICIT_LE]) for uid in (STUDY_FIND, PATIENT_FIND, STUDY_MOVE, STUDY_GET)] + [(storage, list(takes))]
        proposal = Proposal("SCU", "MERIDIAN", contexts, roles={storage: Roles(scu=False, scp=True)})
        acceptor = Acceptor(Host(self.service.services, Offer(taken)), clock, Times(), secure=False, window=8)
        pair = Pair(acceptor, clock, proposal, {storage: self})
        pair.flow()
        return pair

    def begin(self, request: Request) -> Gathered:
        """adapters.dicom.upper.exchange.Service: takes sub-operations with the statuses that are due, or 0000H."""
        self.stored.append(request.command.sop_instance)

        def done(data: bytes) -> None:
            self.data.append(data)
            request.respond(self.statuses.pop(0) if self.statuses else 0)

        return Gathered(request, done)

    def ask(self, field: Field, sop_class: str, data: bytes | None, **more: Any) -> tuple[list[Response], list[Any]]:
        """The pending responses so far, and the final one in a list that it comes to."""
        pending: list[Response] = []
        done = self.pair.requestor.request(dimse.request(field, sop_class, **more), data, on_pending=pending.append)
        return pending, self.pair.result(done)

    def find(self, data: bytes | None, sop_class: str = STUDY_FIND) -> tuple[list[Response], Response]:
        pending, (final,) = self.ask(Field.C_FIND, sop_class, data)
        return pending, final

    def get(self, data: bytes) -> tuple[list[Response], Response]:
        pending, (final,) = self.ask(Field.C_GET, STUDY_GET, data)
        return pending, final


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made: list[Peer] = []

    def one(**options: Any) -> Peer:
        made.append(Peer(tmp_path, **options))
        return made[-1]

    yield one
    for peer in made:
        peer.archive.close()
        peer.service.stop()


# --- C-FIND --------------------------------------------------------------------------------------------


def test_more_matches_than_one_answer_may_have(make: Any) -> None:
    """It hears those that it may, and that there are more."""
    peer = make(most=3)
    peer.archive.keep(*[instance(study=str(study)) for study in range(1, 4)])
    pending, final = peer.find(keys(T0020000D=("UI",)))
    assert (len(pending), final.status) == (3, 0x0000)
    peer.archive.keep(instance(study="4"))
    pending, final = peer.find(keys(T0020000D=("UI",)))
    assert (len(pending), final.status) == (3, 0xA700)


def test_more_than_a_batch(make: Any) -> None:
    """All come, in the order of their arrival, once each."""
    peer = make()
    peer.archive.keep(*[instance(study=str(study)) for study in range(1, 124)])
    pending, final = peer.find(keys(T0020000D=("UI",)))
    found = [identifiers.read(one.data, EXPLICIT_LE)["0020000D"]["Value"][0] for one in pending]
    assert found == [f"2.25.{study}" for study in range(1, 124)]
    assert final.status == 0


def test_a_query_is_cancelled(make: Any) -> None:
    """While the archive is being read: what was found by then is not sent, and the last word is FE00H."""
    peer = make()
    peer.archive.keep(instance())
    held: list[Deferred[Any]] = []

    def later(*call: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        waiting.addCallback(lambda _: call[0](*call[1:]))
        held.append(waiting)
        return waiting

    peer.run = later
    pending, final = peer.ask(Field.C_FIND, STUDY_FIND, keys())
    peer.pair.requestor.cancel_request(1, peer.pair.requestor.context_for(STUDY_FIND))
    peer.pair.flow()
    assert final == []
    while held:
        held.pop(0).callback(None)
    peer.pair.flow()
    assert (pending, final[0].status) == ([], 0xFE00)


def test_too_many_at_once(make: Any) -> None:
    peer = make(at_once=1)
    peer.run = lambda *call: Deferred()
    _, first = peer.ask(Field.C_FIND, STUDY_FIND, keys())
    peer.pair.requestor.may_invoke = 2
    _, second = peer.ask(Field.C_FIND, STUDY_FIND, keys())
    assert (first, second[0].status) == ([], 0xA700)


def test_nothing_goes_out_that_cannot_be_audited(make: Any) -> None:
    """Not the existence of a match."""
    peer = make()
    peer.archive.keep(instance())
    peer.why_not = "the disk is full"
    pending, final = peer.find(keys())
    assert (pending, final.status) == ([], 0xA700)
    _, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert (peer.stored, final.status) == ([], 0xA700)


def test_the_audit_names_no_patient(make: Any) -> None:
    peer = make()
    peer.find(keys(T00100010=("PN", {"Alphabetic": "Doe*"}), T00100020=("LO", "P1"), T0020000D=("UI", "2.25.1")))
    ((event, facts),) = peer.audited
    assert (event, facts["calling"], facts["keys"]) == ("archive.query", "SCU", ["00100010", "00100020", "0020000D=2.25.1"])
    assert "P1" not in str(facts)
    assert "Doe" not in str(facts)


@pytest.mark.parametrize(
    ("data", "sop_class"),
    [
        (None, STUDY_FIND),
        (keys(None), STUDY_FIND),
        (keys("PATIENT"), STUDY_FIND),
        (keys("WARD"), PATIENT_FIND),
        (keys("SERIES"), STUDY_FIND),
        (keys("STUDY"), PATIENT_FIND),
        (keys("IMAGE", T0020000D=("UI", "1.2"), T0020000E=("UI", "1.2", "1.3")), STUDY_FIND),
    ],
)
def test_an_identifier_that_does_not_fit(make: Any, data: bytes | None, sop_class: str) -> None:
    """The level is not one of the model, or a unique key above it is missing, or not single."""
    pending, final = make().find(data, sop_class)
    assert (pending, final.status) == ([], 0xA900)


def test_a_command_that_is_none_of_the_sop_class(make: Any) -> None:
    _, (final,) = make().ask(Field.C_MOVE, STUDY_FIND, keys())
    assert final.status == 0x0211


def test_keys_that_are_not_supported(make: Any) -> None:
    """They are not matched, and the answers say so (FF01H)."""
    peer = make()
    peer.archive.keep(instance())
    pending, _ = peer.find(keys(T00180050=("DS", "5")))
    assert [one.status for one in pending] == [0xFF01]
    pending, _ = peer.find(keys(T00081030=("LO",)))
    assert [one.status for one in pending] == [0xFF00]


def test_a_sequence_is_answered_as_far_as_it_was_asked_for() -> None:
    asked = identifiers.Question(identifiers.Level.STUDY, {"00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH"}}]}}, UNICODE, False)
    found = {"00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["1"]}, "00080104": {"vr": "LO", "Value": ["x"]}}]}}
    said = identifiers.read(identifiers.answer(found, asked, "AE", IMPLICIT_LE), IMPLICIT_LE)
    assert said["00081032"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["1"]}}]


# --- C-GET and C-MOVE ------------------------------------------------------------------------------------


def test_get_goes_on_after_a_failure(make: Any) -> None:
    """A file is gone, a peer refuses, another warns: B000H, with the list of what failed."""
    peer = make()
    peer.archive.keep(*[instance(number) for number in range(1, 5)])
    peer.service.index.instances("2.25.1")[0].path.unlink()
    peer.statuses = [0xA700, 0xB000]
    pending, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert peer.stored == ["2.25.1.1.2", "2.25.1.1.3", "2.25.1.1.4"]
    assert [one.command["NumberOfRemainingSuboperations"] for one in pending] == [3, 2, 1]
    numbers = [final.command[f"NumberOf{name}Suboperations"] for name in ("Completed", "Failed", "Warning")]
    assert (final.status, numbers) == (0xB000, [1, 2, 1])
    assert identifiers.read(final.data, EXPLICIT_LE)["00080058"]["Value"] == ["2.25.1.1.1", "2.25.1.1.2"]
    assert "NumberOfRemainingSuboperations" not in final.command


def test_get_in_the_other_uncompressed_transfer_syntax(make: Any) -> None:
    """The same data set, in the encoding that the peer took."""
    peer = make(takes=(IMPLICIT_LE,))
    peer.archive.keep(instance(PatientName="王^小明"))
    _, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert (peer.stored, final.status) == (["2.25.1.1.1"], 0)
    assert identifiers.read(peer.data[0], IMPLICIT_LE)["00100010"]["Value"] == [{"Alphabetic": "王^小明"}]


def test_a_deflated_data_set_of_odd_length(make: Any) -> None:
    """Is padded on the wire, where fragments have even lengths; not in the archive."""
    peer = make(takes=("1.2.840.10008.1.2.1.99",), storage="1.2.840.10008.5.1.4.1.1.7")
    (deflated,) = [path for path in TEST_FILES if path.name == "image_dfl.dcm"]
    peer.archive.keep(deflated)
    (study,) = peer.service.index.find("STUDY", {})
    _, final = peer.get(keys(T0020000D=("UI", study["0020000D"]["Value"][0])))
    (sent,) = peer.data
    assert final.status == 0
    assert len(sent) % 2 == 0
    assert deflated.read_bytes().endswith(sent[:-1])


def test_get_without_a_context_that_fits(make: Any) -> None:
    """Compression is not changed: it failed."""
    peer = make(takes=("1.2.840.10008.1.2.4.50",))
    peer.archive.keep(instance())
    _, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert (peer.stored, final.status) == ([], 0xA702)


def test_get_is_cancelled(make: Any) -> None:
    """After the first sub-operation: the rest is not sent, and the counts say so."""
    peer = make()
    peer.archive.keep(*[instance(number) for number in range(1, 5)])
    requestor = peer.pair.requestor
    begin = peer.begin

    def first_cancels(request: Request) -> Any:
        if not peer.stored:
            requestor.cancel_request(1, requestor.context_for(STUDY_GET))
        return begin(request)

    peer.begin = first_cancels
    _, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert (final.status, final.command["NumberOfRemainingSuboperations"], len(peer.stored)) == (0xFE00, 3, 1)


def test_get_of_nothing_and_of_too_much(make: Any) -> None:
    peer = make(most_instances=2)
    assert peer.get(keys(T0020000D=("UI", "2.25.9")))[1].status == 0
    peer.archive.keep(*[instance(number) for number in range(1, 4)])
    assert peer.get(keys(T0020000D=("UI", "2.25.1")))[1].status == 0xA702
    assert [event for event, _ in peer.audited] == []


def test_several_of_one_level(make: Any) -> None:
    """A list of UIDs; the levels above narrow it down."""
    peer = make()
    peer.archive.keep(*[instance(1, series, study) for study in "12" for series in "12"])
    peer.get(keys(T0020000D=("UI", "2.25.1", "2.25.2")))
    assert len(peer.stored) == 4
    peer.stored.clear()
    peer.get(keys("SERIES", T0020000D=("UI", "2.25.1"), T0020000E=("UI", "2.25.1.1", "2.25.2.1")))
    assert peer.stored == ["2.25.1.1.1"]


def test_an_unknown_destination(make: Any) -> None:
    peer = make()
    peer.archive.keep(instance())
    data = keys(T0020000D=("UI", "2.25.1"))
    _, (final,) = peer.ask(Field.C_MOVE, STUDY_MOVE, data, MoveDestination="NOBODY")
    assert final.status == 0xA801
    assert [event for event, _ in peer.audited] == ["archive.unknown_destination"]


def test_a_source_that_stops_ends_what_takes_long(make: Any) -> None:
    """As a cancel does, and nothing new is begun."""
    peer = make()
    peer.archive.keep(*[instance(number) for number in range(1, 5)])
    begin = peer.begin

    def first_stops(request: Request) -> Any:
        peer.service.stop()
        return begin(request)

    peer.begin = first_stops
    _, final = peer.get(keys(T0020000D=("UI", "2.25.1")))
    assert (final.status, len(peer.stored)) == (0xFE00, 1)
    assert peer.find(keys())[1].status == 0xA700


def test_a_bug_is_answered_too(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """C000H, and the log says it."""
    peer = make()
    peer.run = lambda *call: maybeDeferred(lambda: Failure(KeyError("bug")))
    assert peer.find(keys())[1].status == 0xC000
    assert "unexpected failure" in caplog.text


# --- pure --------------------------------------------------------------------------------------------


def test_final_statuses() -> None:
    for ends, expected in (([0, 0], 0x0000), ([], 0x0000), ([0, None], 0xB000), ([0xB007, 0], 0xB000), ([None, 0xA700], 0xA702)):
        counts = Counts(len(ends))
        for status in ends:
            counts.ended("1.2", status)
        assert (counts.final(), counts.remaining) == (expected, 0)


def test_more_contexts_than_an_association_may_have() -> None:
    """A run ends before the 129th; what fits an earlier context stays in its run."""
    kinds = [Held(Path("x"), f"1.2.{number}", f"2.{number}", EXPLICIT_LE, "", "", 1) for number in range(130)]
    first, second = runs([*kinds[:128], kinds[0], *kinds[128:], kinds[1]])
    assert (len(first), len(second)) == (129, 3)
    assert len(contexts_of(first)) == 128


def test_identifiers_in_every_transfer_syntax() -> None:
    elements = {"00080052": {"vr": "CS", "Value": ["STUDY"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "王*"}]}}
    for syntax in TRANSFER_SYNTAXES:
        data = identifiers.worded(elements, UNICODE, syntax)
        asked = identifiers.question(data, syntax, identifiers.STUDY_ROOT)
        assert asked.keys == {"00100010": elements["00100010"]}
        assert asked.charset == UNICODE


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_identifiers_cut_short(cut: int) -> None:
    """Are read as far as they go, or refused by name."""
    data = keys(T00100010=("PN", {"Alphabetic": "Doe*"}))
    try:
        identifiers.question(data[:cut], EXPLICIT_LE, identifiers.STUDY_ROOT)
    except (ParseError, UnsupportedError):
        pass
