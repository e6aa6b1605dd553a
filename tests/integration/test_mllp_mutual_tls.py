"""MLLP over real mutual TLS through a running node: who is let in, who is refused, and what changes while connections are open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.mllp.framing import MllpFramer
from certs import Authority
from tests.support.mllp import message, msa
from tests.support.mllp_line import Line
from tests.support.sites import Site

PARTY = "urn:meridian:party:"


class Landscape:
    """A site, its authority, and parties with certificates; `line(party)` connects as one, or as nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "authority", "test")
        self.ca = folder / "authority" / "ca.pem"

    def site(self, **tls: Any) -> Site:
        self.listening = Site(self.folder / "site", {"tls": tls})
        self.listening.certify(self.authority)
        return self.listening

    def party(self, name: str, authority: Authority | None = None) -> Path:
        out = self.folder / name
        (authority or self.authority).issue(name, out=out)
        return out

    def line(self, party: Path | None = None) -> Line:
        return Line(self.listening.port, self.ca, party)


@pytest.fixture
def landscape(tmp_path: Path) -> Landscape:
    return Landscape(tmp_path)


def test_only_the_right_certificate_is_let_in(landscape: Landscape) -> None:
    """No certificate, another party's and one of another authority: nothing is answered, nothing kept, all of it audited."""
    site = landscape.site(client_auth="required", allow=["ward"])
    elsewhere = landscape.party("elsewhere", Authority.create(landscape.folder / "other", "other"))
    with site.running():
        for party in (None, landscape.party("stranger"), elsewhere):
            with landscape.line(party) as line:
                assert line.ask(message("0")) == b""
        with landscape.line(landscape.party("ward")) as line:
            assert msa(line.ask(message("1"))) == "AA|1"
    assert [(one.control_id, one.peer) for one in site.kept()] == [("1", PARTY + "ward")]
    assert [(facts["party"], facts["reason"]) for facts in site.audited("tls.refused")] == [
        ("", "no certificate shown"),
        (PARTY + "stranger", f"{PARTY}stranger may not connect here"),
        (PARTY + "elsewhere", "the issuer of the certificate is unknown"),
    ]
    assert all(facts["remote"].startswith("127.0.0.1:") for facts in site.audited("tls.refused"))


def test_who_proves_nothing_is_on_no_list(landscape: Landscape) -> None:
    """Where a certificate is optional and parties are named: none is answered AR, kept as refused and audited, whatever was sent;
    another party's ends in the handshake."""
    site = landscape.site(client_auth="optional", allow=["ward"])
    with site.running():
        with landscape.line() as line:
            assert msa(line.ask(message("1"))) == "AR|1"
            assert msa(line.ask(b"no HL7")) == "AR"
        with landscape.line(landscape.party("stranger")) as line:
            assert line.ask(message("2")) == b""
        with landscape.line(landscape.party("ward")) as line:
            assert msa(line.ask(message("1"))) == "AA|1"
    assert [(one.control_id, one.verdict, one.peer) for one in site.kept()] == [
        ("1", "refused", ""), ("", "refused", ""), ("1", "accepted", PARTY + "ward"),
    ]  # fmt: skip
    assert [facts["sender"] for facts in site.audited("mllp.sender_refused")] == ["LAB|HOSP", ""]
    assert len(site.audited("tls.refused")) == 1


def test_where_nobody_is_named_a_certificate_may_be_left_out(landscape: Landscape) -> None:
    """The party is known where one was shown; nobody uses up its control ids."""
    site = landscape.site(client_auth="optional")
    with site.running():
        for number, party in enumerate((None, landscape.party("ward"), landscape.party("laboratory"))):
            with landscape.line(party) as line:
                assert msa(line.ask(message("1", body=f"PID|1||{number}"))) == "AA|1"
    assert [one.peer for one in site.kept()] == ["", PARTY + "ward", PARTY + "laboratory"]


def test_revoked_while_connected(landscape: Landscape) -> None:
    """Its connection is closed and audited, it gets no other; who was connected beside it sends on."""
    site = landscape.site(client_auth="required")
    ward, laboratory = landscape.party("ward"), landscape.party("laboratory")
    with site.running(), landscape.line(ward) as first, landscape.line(laboratory) as second:
        assert msa(first.ask(message("1"))) == "AA|1"
        assert msa(second.ask(message("2"))) == "AA|2"
        landscape.authority.revoke("ward", "keyCompromise")
        landscape.authority.copy_trust(site.certs)
        assert first.heard() == b""
        assert msa(second.ask(message("3"))) == "AA|3"
        with landscape.line(ward) as again:
            assert again.ask(message("4")) == b""
    assert [one.control_id for one in site.kept()] == ["1", "2", "3"]
    assert [(facts["party"], facts["channel"]) for facts in site.audited("tls.closed")] == [(PARTY + "ward", "lines")]
    assert site.audited("tls.refused")[0]["reason"] == "the certificate has been revoked"


def test_renewed_in_the_middle_of_a_message(landscape: Landscape) -> None:
    """The message that has begun is taken when the rest of it comes; who connects now is shown the new certificate."""
    site = landscape.site(client_auth="required")
    ward, framed = landscape.party("ward"), MllpFramer.wrap(message("1"))
    with site.running(), landscape.line(ward) as line:
        line.socket.sendall(framed[:40])
        (renewed,) = landscape.authority.renew("site")
        shown = 0
        while shown != int(renewed.serial, 16):
            with landscape.line(ward) as later:
                shown = later.serial()
        line.socket.sendall(framed[40:])
        assert msa(line.heard()) == "AA|1"
        assert line.serial() != shown
