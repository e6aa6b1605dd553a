"""Who may enter, where lines, XML, messages and reads come together: no way around the rules of the party."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from adapters.fhir import repository_adapter
from adapters.fhir.repository_destination import RepositoryDestination
from engine.message import Verdict
from engine.parties.model import Mark
from tests.support.entry import Guarded, device
from tests.support.fhir import DirectWriter, RepositoryIntake, bundle, entry, open_repository

MINE = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p1"}}
OTHERS = {**MINE, "subject": {"reference": "Patient/p2"}}
NOBODYS = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
XML = b"""<Observation xmlns="http://hl7.org/fhir"><status value="final"/><code><text value="x"/></code>
<subject><reference value="Patient/%s"/></subject></Observation>"""


def own(name: str = "terminal-7", **more: Any) -> Any:
    return device(name, **{"patients": ("Patient/p1",), "keys": (), **more})


@pytest.fixture
def source(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, own(), own("terminal-8", patients=()))


def verdicts(source: Guarded) -> list[Verdict | None]:
    return [one.verdict if one else None for one in source.intake.invalid]


# --- lines -----------------------------------------------------------------------------------------


def test_lines_are_of_own_patients(source: Guarded) -> None:
    """Whatever a line is: a create, an update by id, a Bundle, one in which something cannot be read, something contained."""
    contained = {**NOBODYS, "contained": [{"resourceType": "Patient", "id": "p"}], "subject": {"reference": "#p"}}
    unread = {"request": {"method": "PATCH", "url": "Observation/1"}}
    heard = source.connect("terminal-7").upload(
        MINE,
        OTHERS,
        {**MINE, "id": "o1"},
        {"resourceType": "Patient", "id": "p2"},
        json.loads(bundle(entry("POST", "Observation", MINE))),
        json.loads(bundle(entry("POST", "Observation", OTHERS))),
        json.loads(bundle(entry("POST", "Observation", MINE), unread, kind="batch")),
        contained,
        MINE,
    )
    assert heard.status == 200
    assert heard.results == ["kept", *["refused"] * 3, "kept", *["refused"] * 3, "kept"]
    assert verdicts(source).count(None) == 3
    assert "p2" not in json.dumps(source.audited)


def test_lines_are_within_the_scopes_of_the_token(tmp_path: Path) -> None:
    """A scope for creates of one type takes no update, which a line with an id is, and no other type, in a Bundle neither."""
    source = Guarded(tmp_path, device())
    lines = [NOBODYS, {**NOBODYS, "id": "o1"}, {"resourceType": "Patient"}, json.loads(bundle(entry("PUT", "Observation?code=1", NOBODYS)))]
    heard = source.connect().upload(*lines, token=source.token(scope="system/Observation.c"))
    assert heard.results == ["kept", "refused", "refused", "refused"]


def test_a_journal_is_of_its_party(source: Guarded) -> None:
    """The same name of a terminal, within another party, is another journal: it neither sees nor disturbs the first."""
    assert source.connect("terminal-7").upload(MINE).results == ["kept"]
    other = source.connect("terminal-8")
    standing = other.ask("GET", "/fhir/$upload?device=cart").said
    assert {one["name"]: one.get("valueDecimal") for one in standing["parameter"]}["highest"] == 0
    assert other.upload(OTHERS).results == ["kept"]
    assert source.connect("terminal-7").upload(MINE).results == ["repeated"]


def test_a_journal_is_the_same_whatever_proves_its_party(tmp_path: Path) -> None:
    """A certificate with a name of its own, and a token: one party, so that what comes again over the other way is not doubled."""
    source = Guarded(tmp_path, device(marks=((Mark.CERTIFICATE, "tablet-0815"),)))
    assert source.connect("tablet-0815").upload(MINE).results == ["kept"]
    assert source.connect().upload(MINE, token=source.token()).results == ["repeated"]
    assert {one.peer for one in source.intake.envelopes} == {"urn:meridian:party:terminal-7"}


def test_a_party_that_is_disabled_in_the_middle(source: Guarded) -> None:
    """Its very next line is not taken, and settles nothing: what the terminal has recorded is sent when it may enter again."""
    line = source.connect("terminal-7")
    first, second = (json.dumps({**MINE, "code": {"text": word}}).encode() + b"\n" for word in ("one", "two"))
    line.begin(first, len(first + second))
    assert len(source.intake.envelopes) == 1
    source.disable("terminal-7")
    line.connection.dataReceived(second)
    assert line.told().status == 403
    assert "disabled" in line.told().summary.text
    assert len(source.intake.envelopes) == 1
    assert [facts["party"] for event, facts in source.audited if event == "fhir.refused"] == ["terminal-7"]
    source.register(own())
    assert source.connect("terminal-7").upload(first.rstrip(), second.rstrip()).results == ["repeated", "kept"]


def test_a_line_that_cannot_be_checked_does_not_hang(source: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours ends the upload, and is logged; what had come before is told."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("adapters.fhir.offline.taking.check", broken)
    heard = source.connect("terminal-7").upload(MINE)
    assert (heard.status, heard.results) == (503, ["unavailable"])
    assert source.source._reception._admission.under_way == 0


def test_a_large_line_is_read_off_the_reactor_thread(source: Guarded) -> None:
    """In each of its steps: parsed, whose it is, its structure. The line behind it waits, and stays behind it."""
    large, run = {**MINE, "note": [{"text": "x" * 40_000}]}, source.source._reception.in_thread
    waiting: list[tuple[Any, Any]] = []

    def later(function: Any, *arguments: Any) -> Deferred[Any]:
        waiting.append((Deferred(), (function, *arguments)))
        return waiting[-1][0]

    source.source._reception.in_thread = later
    line = source.connect("terminal-7")
    body = b"".join(json.dumps(one).encode() + b"\n" for one in (large, MINE))
    line.begin(body, len(body))
    steps = []
    while waiting:
        assert source.intake.envelopes == []
        done, (function, *arguments) = waiting.pop()
        steps.append(function.__name__)
        run(function, *arguments).chainDeferred(done)
        source.advance(0)
    assert steps == ["read", "_check_write", "check"]
    assert [one.control_id for one in source.intake.envelopes] == ["cart/1", "cart/2"]
    assert line.told().results == ["kept", "kept"]


def test_a_node_that_stops_while_a_large_line_is_read(source: Guarded) -> None:
    """The line is not handed in, and said to be unavailable."""
    done: Deferred[Any] = Deferred()
    source.source._reception.in_thread = lambda *_: done
    line = source.connect("terminal-7")
    body = json.dumps({**MINE, "note": [{"text": "x" * 40_000}]}).encode() + b"\n"
    line.begin(body, len(body))
    source.source.stop()
    source.advance(0)
    done.callback(None)
    assert (line.told().status, line.told().results, source.intake.envelopes) == (503, ["unavailable"], [])


# --- XML, messages, large bodies -----------------------------------------------------------------------


def test_xml_is_no_way_around(source: Guarded) -> None:
    line = source.connect("terminal-7")
    answered = [line.ask("POST", "/fhir/Observation", XML % name, content_type="application/fhir+xml").status for name in (b"p1", b"p2")]
    assert answered == [202, 403]


def message(*resources: Any, event: str = "ward-round") -> bytes:
    header = {
        "resourceType": "MessageHeader",
        "id": "m1",
        "eventCoding": {"system": "urn:e", "code": event},
        "source": {"endpoint": "urn:w"},
    }
    entries = [{"fullUrl": f"urn:uuid:{index}", "resource": one} for index, one in enumerate((header, *resources))]
    return json.dumps({"resourceType": "Bundle", "type": "message", "entry": entries}).encode()


def test_an_event_is_no_interaction(tmp_path: Path) -> None:
    """Who may send Observations may not send whatever else in a message that is named after them."""
    source = Guarded(tmp_path, device(keys=(), may_send=("Observation", "MessageHeader")), messages=True)
    line = source.connect("terminal-7")
    assert line.ask("POST", "/fhir/$process-message", message(NOBODYS)).status == 200
    medication = {"resourceType": "Medication"}
    assert line.ask("POST", "/fhir/$process-message", message(medication)).status == 403
    for event in ("Observation", "Observation create"):
        assert line.ask("POST", "/fhir/$process-message", message(medication, event=event)).status == 400
    assert verdicts(source) == [None, Verdict.REFUSED, Verdict.INVALID, Verdict.INVALID]


def test_messages_are_of_own_patients(tmp_path: Path) -> None:
    source = Guarded(tmp_path, own(may_send=("ward-round",)), messages=True)
    line = source.connect("terminal-7")
    answered = [line.ask("POST", "/fhir/$process-message", message(one)).status for one in (MINE, OTHERS)]
    assert answered == [200, 403]


def test_large_writes_are_looked_into_off_the_reactor_thread(source: Guarded) -> None:
    """All that takes the time of the body's size: whose it is, too."""
    threads: list[str] = []
    source.source._reception.in_thread = _noting(source.source._reception.in_thread, threads)
    body = bundle(*[entry("POST", "Observation", OTHERS)] * 500)
    assert source.connect("terminal-7").ask("POST", "/fhir", body).status == 403
    assert threads == ["_fault_of", "_check_write"]


def _noting(run: Any, names: list[str]) -> Any:
    def noting(function: Any, *arguments: Any) -> Any:
        names.append(function.__name__)
        return run(function, *arguments)

    return noting


# --- reads -----------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Any]:
    """Makes a channel of these parties that answers from its repository."""
    repository = open_repository(tmp_path / "fhir-repository.db")

    def make(*parties: Any, **options: Any) -> Guarded:
        intake = RepositoryIntake()
        source = Guarded(tmp_path, *parties, intake=intake, repository="fhir-repository.db", **options)
        plain = repository_adapter.destination_options.defaults()
        intake.to = RepositoryDestination(plain, source.context, DirectWriter(repository))
        return source

    yield make
    repository.close()


READER = ("Observation", "Observation read", "Observation search")


def test_a_terminal_with_patients_of_its_own_reads_back_what_it_sent(kept: Any) -> None:
    """And nothing else: with `reads: own` others' resources are not there, those of an own patient neither."""
    source = kept(own(may_send=READER), own("terminal-8", may_send=READER))
    line, other = source.connect("terminal-7"), source.connect("terminal-8")
    made = line.post(MINE)
    place = f"/fhir/Observation/{made.said['id']}"
    assert made.status == 201
    assert [line.ask("GET", f"{place}{rest}").status for rest in ("", "/_history", "/_history/1")] == [200, 200, 200]
    assert [other.ask("GET", f"{place}{rest}").status for rest in ("", "/_history", "/_history/1")] == [404, 404, 404]
    totals = [one.ask("GET", "/fhir/Observation?patient=Patient/p1").said["total"] for one in (line, other)]
    assert totals == [1, 0]
    assert line.ask("POST", "/fhir", bundle(entry("GET", "Observation?patient=Patient/p1"))).status == 403


def test_lines_know_each_other_and_are_corrected_by_identifier_and_patient(kept: Any) -> None:
    """What ids are for elsewhere: whose something is stands in the condition, so that it is safe whatever is in store."""
    source = kept(own(may_send=("Observation", "Encounter", "Observation search")))

    def put(resource: Any, number: str) -> Any:
        named = {**resource, "identifier": [{"system": "urn:cart", "value": number}]}
        url = f"{resource['resourceType']}?identifier=urn:cart|{number}&patient=Patient/p1"
        return json.loads(bundle(entry("PUT", url, named)))

    visit = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/p1"}}
    seen = {**MINE, "encounter": {"reference": "Encounter?identifier=urn:cart|1&patient=Patient/p1"}}
    line = source.connect("terminal-7")
    assert line.upload(put(visit, "1"), put(seen, "2"), put({**seen, "status": "amended"}, "2")).results == ["kept"] * 3
    (found,) = line.ask("GET", "/fhir/Observation?patient=Patient/p1").said["entry"]
    assert (found["resource"]["status"], found["resource"]["meta"]["versionId"]) == ("amended", "2")
    assert found["resource"]["encounter"]["reference"].startswith("Encounter/")
    foreign = {**seen, "encounter": {"reference": "Encounter?identifier=urn:cart|1&patient=Patient/p2"}}
    assert line.upload(put(foreign, "3"), query="device=cart&first=4").results == ["refused"]


def test_where_everything_can_be_read_a_terminal_with_patients_of_its_own_reads_nothing(kept: Any) -> None:
    source = kept(own(may_send=READER), reads="all")
    assert source.connect("terminal-7").ask("GET", "/fhir/Observation?patient=Patient/p1").status == 403
    assert source.audited[-1][1]["party"] == "terminal-7"
