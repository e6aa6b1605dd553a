"""What a party may once it is in: by certificate or token, its types of resources, its scopes, its rate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.entry.rates import Rates
from engine.entry.scopes import granted, permits
from engine.message import Verdict
from engine.parties import Kind, Party, Snapshot
from tests.support.entry import Guarded, device, signed
from tests.support.fhir import bundle, entry

OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
PATIENT = {"resourceType": "Patient", "active": True}
HOSPITAL = Party("county", Kind.INSTITUTION, may_send=("*",))


@pytest.fixture
def source(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, HOSPITAL, device(belongs_to="county"), device("other", keys=()))


def reasons(source: Guarded) -> list[str]:
    return [facts["reason"] for _, facts in source.audited]


def test_a_registered_certificate_is_enough(source: Guarded) -> None:
    """The party that a certificate names enters without a token; nobody else does, and each refusal is audited."""
    assert source.connect("county").post(OBSERVATION).status == 202
    assert source.intake.envelopes[0].peer == "urn:meridian:party:county"
    assert source.connect("stranger").post(OBSERVATION).status == 403
    answer = source.connect().post(OBSERVATION)
    assert answer.status == 401
    assert 'WWW-Authenticate: Bearer realm="meridian"\r\n' in f"{answer.head}\r\n"
    assert len(source.audited) == 2
    assert len(source.intake.envelopes) == 1


def test_a_disabled_certificate_is_refused_at_once(source: Guarded) -> None:
    """On the open connection, at the next request, read or write; so is what belongs to the party."""
    line, token = source.connect("county"), source.token()
    assert line.post(OBSERVATION).status == 202
    source.disable("county")
    assert line.post(OBSERVATION).status == 403
    assert source.connect("county").ask("GET", "/fhir/Patient/1").status == 403
    assert source.connect().post(OBSERVATION, token).status == 401


def test_a_token_may_be_needed_beside_the_certificate(tmp_path: Path) -> None:
    """`certificates: false`."""
    source = Guarded(tmp_path, device(), auth={"certificates": False, "tokens": {}})
    assert source.connect("terminal-7").post(OBSERVATION).status == 401
    token = source.token(party="terminal-7", thumbprint="abc")
    assert source.connect("terminal-7", "abc").post(OBSERVATION, token).status == 202


def test_a_token_is_bound_to_the_certificate_that_it_was_asked_with(source: Guarded) -> None:
    """RFC 8705 clause 3: of use with that certificate only; one asked for without a certificate is not bound."""
    token = source.token(party="terminal-7", thumbprint="abc")
    assert source.connect("terminal-7", "abc").post(OBSERVATION, token).status == 202
    assert source.connect("terminal-7", "abd").post(OBSERVATION, token).status == 401
    assert source.connect().post(OBSERVATION, token).status == 401
    source.restart()
    assert source.connect().post(OBSERVATION, token).status == 401
    assert source.connect("terminal-7", "abc").post(OBSERVATION, token).status == 202
    assert source.connect().post(OBSERVATION, source.token()).status == 202


def test_certificate_and_token_are_of_one_party(source: Guarded) -> None:
    """A device's token is good over the connection of its hospital, in whose name it is not; another's certificate spoils it."""
    token = source.token()
    assert source.connect("county", "abc").post(OBSERVATION, token).status == 202
    assert source.intake.envelopes[0].peer == "urn:meridian:party:terminal-7"
    assert source.connect("other", "xyz").post(OBSERVATION, token).status == 401
    assert source.connect("stranger", "xyz").post(OBSERVATION, token).status == 401
    refused = source.connect("other", "xyz").form(client_assertion=signed(source.claims()))
    assert refused.said["error"] == "invalid_client"


def test_a_token_is_shown_in_one_place(source: Guarded) -> None:
    """RFC 6750 clause 2: not in the address, not twice, and nothing but Bearer; what was wrong is said, and never the token."""
    token = source.token()
    for path, head in (
        (f"/fhir/Observation?access_token={token}", ""),
        ("/fhir/Observation", f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
        ("/fhir/Observation", f"Authorization: Bearer {token}, Bearer {token}\r\n"),
        ("/fhir/Observation", "Authorization: Basic eDp5\r\n"),
        ("/fhir/Observation", "Authorization: Bearer\r\n"),
    ):
        answer = source.connect().raw(f"GET {path} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode())
        assert answer.status == 400
        assert 'error="invalid_request"' in answer.head
        assert answer.said["resourceType"] == "OperationOutcome"
    assert token not in json.dumps(source.audited)
    assert len(source.audited) == 5


def test_a_token_is_of_its_channel(source: Guarded, tmp_path: Path) -> None:
    """Another channel of the node, whose parties may be others, does not take it."""
    token = source.token()
    source.context = replace(source.context, name="elsewhere")
    source.restart()
    assert source.connect().post(OBSERVATION, token).status == 401


def test_a_party_of_another_channel(source: Guarded) -> None:
    """`channels` of the party hold for certificates and tokens."""
    source.register(device(channels=("elsewhere",)))
    assert source.connect("terminal-7").post(OBSERVATION).status == 403
    assert source.connect().form(client_assertion=signed(source.claims())).said["error"] == "invalid_client"


# --- types of resources ----------------------------------------------------------------------------


def test_each_entry_of_a_transaction_counts(source: Guarded) -> None:
    """A device that sends Observations sends Bundles of them, and none in which anything else is; what is refused is kept."""
    source.register(device(may_send=("Observation",)))
    token, line = source.token(), source.connect()

    def send(*entries: Any, kind: str = "transaction") -> int:
        status = line.ask("POST", "/fhir", bundle(*entries, kind=kind), authorization=f"Bearer {token}").status
        return int(status)

    good = entry("POST", "Observation", OBSERVATION)
    assert send(good, good) == 202
    assert send(good, entry("POST", "Patient", PATIENT)) == 403
    assert send(good, entry("GET", "Patient/1")) == 403
    assert send(good, entry("DELETE", "Observation/1")) == 403
    assert send(good, entry("POST", "Observation", PATIENT), kind="batch") == 403
    assert send(good, {"request": {"method": "PATCH", "url": "Observation/1"}}, kind="batch") == 403
    assert send(good, {"resource": PATIENT}, kind="batch") == 403
    assert send() == 403
    assert [invalid.verdict for invalid in source.intake.invalid if invalid] == [Verdict.REFUSED] * 7
    assert source.intake.envelopes[1].facts["message.parts"] == "Observation create, Patient create"
    assert {facts["party"] for _, facts in source.audited} == {"terminal-7"}


def test_what_is_refused_leaves_its_key_free(source: Guarded) -> None:
    """An Idempotency-Key that came with what its sender may not send is not used up."""
    line = source.connect("other")
    answer = line.ask("POST", "/fhir/Medication", b'{"resourceType":"Medication"}', idempotency_key="k")
    assert answer.status == 403
    assert source.intake.envelopes[0].idempotency_key == ""


def test_reads_are_named(source: Guarded) -> None:
    """Who may send a type does not read it, until `may_send` says so."""
    assert source.connect("other").ask("GET", "/fhir/Observation/1").status == 403
    source.register(device("other", keys=(), may_send=("Observation read",)))
    assert source.connect("other").ask("GET", "/fhir/Observation/1").status != 403
    assert source.connect("other").ask("GET", "/fhir/Observation?code=1").status == 403


def test_scopes_narrow_what_the_party_may(source: Guarded) -> None:
    """RFC 6750 clause 3.1: 403 insufficient_scope, as an OperationOutcome; what is within the scope goes on."""
    token = source.token(scope="system/Observation.c")
    assert source.connect().post(OBSERVATION, token).status == 202
    answer = source.connect().post(PATIENT, token)
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.head
    assert answer.said["issue"][0]["code"] == "forbidden"
    mixed = bundle(entry("POST", "Observation", OBSERVATION), entry("POST", "Patient", PATIENT))
    assert source.connect().ask("POST", "/fhir", mixed, authorization=f"Bearer {token}").status == 403


def standing(*may_send: str) -> Any:
    return Snapshot([device(may_send=may_send)]).standing("terminal-7")


GRANTED = [
    ("system/Observation.write", ("Observation",), ["system/Observation.cu"]),
    ("system/Observation.cu", ("Observation",), ["system/Observation.cu"]),
    ("system/*.c", ("Observation", "Patient"), ["system/Observation.c", "system/Patient.c"]),
    ("system/*.c", ("*",), ["system/*.c"]),
    ("system/*.*", ("*",), ["system/*.*"]),
    ("system/Observation.*", ("Observation *",), ["system/Observation.*"]),
    ("system/Observation.read", ("Observation read", "Observation search"), ["system/Observation.read"]),
    ("system/Observation.rs", ("Observation read",), ["system/Observation.r"]),
    ("system/Patient.c", ("Observation",), []),
    ("system/Observation.uc system/Observation. system/.c user/Observation.c system/Observation.c?code=1", ("*",), []),
    ("", ("Observation",), ["system/Observation.cu"]),
    ("", ("ORU^R01",), []),
]


@pytest.mark.parametrize(("asked", "may_send", "wanted"), GRANTED)
def test_granted_is_what_is_asked_and_allowed(asked: str, may_send: tuple[str, ...], wanted: list[str]) -> None:
    """SMART App Launch 2.2, scopes of version 1 and 2."""
    assert granted(asked, standing(*may_send)) == wanted


def test_scopes_permit_every_part_or_nothing() -> None:
    """Nothing asked for is nothing allowed; without scopes, which is a certificate, nothing is narrowed."""
    assert permits(None, ["Patient delete"])
    assert permits(frozenset({"system/*.cu"}), ["Patient create", "Observation update"])
    assert not permits(frozenset({"system/*.cu"}), ["Patient create", "Observation delete"])
    assert not permits(frozenset(), ["Patient create"])


# --- rates -----------------------------------------------------------------------------------------


def test_more_requests_than_a_party_may(source: Guarded) -> None:
    """429 with the seconds until the next one is within the rate; said to the audit once, not for each of a crowd. Others go on."""
    source.register(HOSPITAL, device("other", keys=(), requests_per_minute=6))
    line = source.connect("other")
    assert [line.post(OBSERVATION).status for _ in range(6)] == [202] * 6
    answer = line.post(OBSERVATION)
    assert answer.status == 429
    assert "Retry-After: 10" in answer.head
    assert line.post(OBSERVATION).status == 429
    assert reasons(source) == ["more than 6 requests per minute"]
    assert source.connect("county").post(OBSERVATION).status == 202
    source.advance(10)
    assert [line.post(OBSERVATION).status for _ in range(2)] == [202, 429]
    assert len(source.intake.envelopes) == 8


def test_tokens_count_as_requests(source: Guarded) -> None:
    """A client that asks for a token before each request is held to the same rate."""
    source.register(device(requests_per_minute=1))
    source.token()
    answer = source.connect().form(client_assertion=signed(source.claims()))
    assert answer.status == 429
    assert "Retry-After: 60" in answer.head


def test_a_bucket_fills_and_holds_no_more_than_a_minute() -> None:
    """Whatever the pause, no more than a minute's worth comes at once; time that goes backwards gives nothing."""
    rates = Rates()
    assert [rates.take("a", 2, 0.0)[0] for _ in range(3)] == [0.0, 0.0, 30.0]
    assert [rates.take("a", 2, 3600.0)[0] for _ in range(3)] == [0.0, 0.0, 30.0]
    assert rates.take("a", 2, 0.0)[0] == 30.0
