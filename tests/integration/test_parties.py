"""The registry of parties and a running node: two hospitals over real mutual TLS, of which one claims to be the other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from certs import Authority
from engine.bench.loopback import HOST, free_port
from tests.support.astm_instrument import content, frames
from tests.support.mllp import message, msa
from tests.support.mllp_line import Line
from tests.support.sites import Site

PARTY = "urn:meridian:party:"
CITY, COUNTY = "LAB|CITY", "LAB|COUNTY"


def from_(sender: str, control_id: str, kind: str = "ADT^A01") -> bytes:
    return message(control_id, kind).replace(b"LAB|HOSP", sender.encode(), 1)


class Registered(Site):
    """A site whose channel checks parties: `city` and `county`, each with its certificate and its sender."""

    def __init__(self, folder: Path, check: str) -> None:
        super().__init__(folder / "site", {"tls": {"client_auth": "optional"}}, parties=check)
        authority = Authority.create(folder / "authority", "test")
        self.certify(authority)
        self.ca = folder / "authority/ca.pem"
        self.shown = {name: folder / name for name in ("city", "county", "stranger")}
        for name, out in self.shown.items():
            authority.issue(name, out=out)
        table = "id,kind,senders,may_send\ncity,institution,LAB|CITY,ADT^*\ncounty,institution,LAB|COUNTY,ADT^*\n"
        (folder / "parties.csv").write_text(table)
        self.parties("import", folder / "parties.csv")

    def parties(self, *arguments: object) -> None:
        """`meridian parties`, in a process of its own."""
        command = [sys.executable, "-m", "engine", "parties", *map(str, arguments), "--site", str(self.folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def metric(self, name: str) -> float:
        with urlopen(f"http://127.0.0.1:{self.ports.http}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))

    def line(self, party: str = "") -> Line:
        return Line(self.port, self.ca, self.shown.get(party))

    def facts(self, event: str) -> list[tuple[Any, ...]]:
        return [tuple(facts[name] for name in ("rule", "proven", "sender", "control_id")) for facts in self.audited(event)]

    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(one.control_id, one.peer.removeprefix(PARTY), one.verdict) for one in self.kept()]


@pytest.fixture
def refusing(tmp_path: Path) -> Registered:
    return Registered(tmp_path, "refuse")


def until(line: Line, sender: str, first: int, wanted: str) -> None:
    """Send until the node answers `wanted`: then it has taken up what the command line has changed."""
    for number in range(first, first + 20_000):
        if msa(line.ask(from_(sender, str(number)))).startswith(wanted):
            return
    raise AssertionError(f"the node never answered {wanted}")


def test_an_impostor_is_refused_and_the_right_one_is_not(refusing: Registered) -> None:
    """County claims city's MSH-3 and MSH-4 under city's next control id: AR, kept, audited. City then sends that very control id, and hears AA."""
    with refusing.running(), refusing.line("city") as city, refusing.line("county") as county:
        assert msa(city.ask(from_(CITY, "1"))) == "AA|1"
        refused = county.ask(from_(CITY, "2"))
        assert msa(refused) == "AR|2"
        assert b"ERR||MSH^1^3^1|207^" in refused
        assert msa(county.ask(from_(COUNTY, "2"))) == "AA|2"
        assert msa(city.ask(from_(CITY, "2"))) == "AA|2"
        assert msa(city.ask(from_(CITY, "3", "ORU^R01"))) == "AR|3"
        with refusing.line("stranger") as stranger, refusing.line() as nobody:
            assert msa(stranger.ask(from_(CITY, "4"))) == "AR|4"
            assert msa(nobody.ask(from_("XX|YY", "5"))) == "AR|5"
    assert refusing.verdicts() == [
        ("1", "city", "accepted"), ("2", "county", "refused"), ("2", "county", "accepted"), ("2", "city", "accepted"),
        ("3", "city", "refused"), ("4", "stranger", "refused"), ("5", "", "refused"),
    ]  # fmt: skip
    assert refusing.facts("parties.refused") == [
        ("mismatch", PARTY + "county", CITY, "2"),
        ("message_type", PARTY + "city", CITY, "3"),
        ("unregistered", PARTY + "stranger", CITY, "4"),
        ("unregistered", "", "XX|YY", "5"),
    ]


def test_a_running_node_notices_a_disable(refusing: Registered) -> None:
    """On an open connection, without a restart; the other party goes on; and it is taken again once it is enabled."""
    with refusing.running(), refusing.line("city") as city, refusing.line("county") as county:
        assert msa(city.ask(from_(CITY, "1"))) == "AA|1"
        refusing.parties("disable", "city", "--reason", "key stolen")
        until(city, CITY, 100, "AR")
        assert msa(county.ask(from_(COUNTY, "2"))) == "AA|2"
        assert msa(city.ask(from_(CITY, "3"))) == "AR|3"
        refusing.parties("enable", "city")
        until(city, CITY, 1_000_000, "AA")
        assert msa(city.ask(from_(CITY, "3"))) == "AA|3"
    assert {facts["rule"] for facts in refusing.audited("parties.refused")} == {"disabled"}
    (disabled,) = refusing.audited("parties.disabled")
    assert (disabled["party"], disabled["reason"]) == ("city", "key stolen")


def test_where_it_only_flags(tmp_path: Path) -> None:
    """The impostor is taken and audited, and counted at /metrics; a disabled party is refused here too."""
    site = Registered(tmp_path, "flag")
    with site.running(), site.line("city") as city, site.line("county") as county:
        assert msa(county.ask(from_(CITY, "1"))) == "AA|1"
        assert msa(city.ask(from_(CITY, "2"))) == "AA|2"
        assert site.metric("meridian_parties_mismatch_total") == 1
        site.parties("disable", "city", "--reason", "key stolen")
        until(city, CITY, 100, "AR")
    assert site.facts("parties.flagged") == [("mismatch", PARTY + "county", CITY, "1")]


def test_an_instrument_is_known_by_its_serial_number(tmp_path: Path) -> None:
    """It stands in H-5. What another sends is refused (NAK), kept and audited; so is what came complete of its broken-off transfer."""
    port = free_port()
    site = Registered(tmp_path, "refuse")
    (tmp_path / "instruments.csv").write_text("id,kind,serials,may_send,channels\nchem,device,SN0815,ASTM^R,chemistry\n")
    site.parties("import", tmp_path / "instruments.csv")
    chemistry = {"name": "chemistry", "source": {"astm": {"listen": f"{HOST}:{port}"}}, "destinations": [], "parties": "refuse"}
    (site.folder / "channels" / "chemistry.yaml").write_text(json.dumps(chemistry))
    rest = ["P|1|P1", "O|1|S1", "R|1|^^^GLU|5"]

    def sends(serial: str, *records: str) -> bytes:
        answer = b""
        with socket.create_connection((HOST, port), timeout=60) as line:
            for part in (b"\x05", *frames(content(f"H|\\^&|||Chem800^2.1^{serial}", *rest, *records))):
                line.sendall(part)
                answer = line.recv(1)
        return answer

    with site.running():
        assert sends("SN0815", "L|1|N") == b"\x06"
        assert sends("SN4711", "L|1|N") == b"\x15"
        assert sends("SN4711", "P|2|P2") == b"\x06"  # of a frame within; then it is gone
    verdicts = [one.verdict for one in site.kept()]
    assert verdicts[:2] == ["accepted", "refused"]
    assert "accepted" not in verdicts[2:]
    assert [facts["rule"] for facts in site.audited("parties.refused")][:1] == ["unregistered"]
