"""MLLP software written elsewhere against a running node: node-hl7-client and python-hl7 send to it, and it delivers to node-hl7-server
and to python-hl7's server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hl7.client import MLLPClient

from certs import Authority
from tests.support.peers import ForeignPeer, node_script, python_script
from tests.support.sites import Site

PEERS = Path(__file__).parent / "mllp_peers"
CHINESE = "张^三丰"
TRAILS = "倈^俕倊乗"
"""Second bytes in GB18030 that are `|`, `^`, `~` and the escape character."""


def admission(control_id: str, name: str = "Doe^Jo", charset: str = "", kind: str = "ADT^A01^ADT_A01") -> str:
    header = f"MSH|^~\\&|HIS|WARD|PLATFORM|CITY|20261124080000||{kind}|{control_id}|P|2.5" + (f"||||||{charset}" if charset else "")
    return f"{header}\rEVN|A01|20261124080000\rPID|1||4711^^^WARD^MR||{name}||19800115|F\rPV1|1|I\r"


def answers(*control_ids: str, code: str = "AA") -> list[dict[str, str]]:
    return [{"code": code, "control_id": one} for one in control_ids]


def coded(told: list[Any]) -> list[dict[str, str]]:
    """Without what else a client has told."""
    return [{"code": one["code"], "control_id": one["control_id"]} for one in told]


class TestSenders:
    """Each is satisfied with its acknowledgments, and what it has sent is kept byte for byte."""

    def node_client(self, folder: Path, **asked: Any) -> list[Any]:
        with ForeignPeer(node_script(PEERS / "client.mjs", "node-hl7-client", folder), host="localhost", **asked) as peer:
            return peer.all_heard()

    def python_client(self, **asked: Any) -> list[Any]:
        with ForeignPeer(python_script(PEERS / "client.py"), **asked) as peer:
            return peer.all_heard()

    def test_node_hl7_client(self, tmp_path: Path) -> None:
        """Several messages on one connection, Chinese in UTF-8 among them; one that the channel does not accept hears AR."""
        site = Site(tmp_path / "site", accept=["message.type == 'ADT^A01'"])
        sent = [admission("1"), admission("2", CHINESE, "UNICODE UTF-8"), admission("3", kind="SIU^S12^SIU_S12"), admission("4")]
        with site.running():
            told = self.node_client(tmp_path, port=site.port, messages=sent)
        assert told == [*answers("1", "2"), *answers("3", code="AR"), *answers("4")]
        assert [(one.control_id, one.verdict) for one in site.kept()] == [
            ("1", "accepted"), ("2", "accepted"), ("3", "refused"), ("4", "accepted"),
        ]  # fmt: skip
        assert CHINESE.encode() in site.kept()[1].body

    def test_node_hl7_client_sends_a_batch(self, tmp_path: Path) -> None:
        """It reads the batch that answers, and finds an acknowledgment for each message."""
        site = Site(tmp_path / "site", accept=["message.type == 'ADT^A01'"])
        wrong = admission("2", kind="SIU^S12^SIU_S12")
        sent = [
            "BHS|^~\\&|HIS|WARD|PLATFORM|CITY|20261124080000||||B1\r" + admission("1") + wrong + admission("3") + "BTS|3",
            admission("4"),
        ]
        with site.running():
            told = self.node_client(tmp_path, port=site.port, messages=sent)
        assert told == [*answers("1"), *answers("2", code="AR"), *answers("3", "4")]
        assert [one.control_id for one in site.kept()] == list("1234")

    def test_node_hl7_client_over_mutual_tls(self, tmp_path: Path) -> None:
        """With its certificate it is taken, and its party is in the store; a party that is not on the list and one without any
        certificate get nothing in, and are audited."""
        authority = Authority.create(tmp_path / "authority", "test")
        site = Site(tmp_path / "site", {"tls": {"client_auth": "required", "allow": ["ward"]}})
        site.certify(authority)
        for party in ("ward", "stranger"):
            authority.issue(party, out=tmp_path / party)
        sent = [admission("1"), admission("2", CHINESE, "UNICODE UTF-8")]
        with site.running():
            assert self.node_client(tmp_path, port=site.port, tls=files(tmp_path / "ward"), messages=sent) == answers("1", "2")
            for tls in (files(tmp_path / "stranger"), {"ca": str(tmp_path / "ward" / "ca.pem")}):
                (told,) = self.node_client(tmp_path, port=site.port, tls=tls, messages=sent)
                assert "lost" in told
        assert [(one.control_id, one.peer) for one in site.kept()] == [("1", "urn:meridian:party:ward"), ("2", "urn:meridian:party:ward")]
        assert [facts["reason"] for facts in site.audited("tls.refused")] == [
            "urn:meridian:party:stranger may not connect here", "no certificate shown",
        ]  # fmt: skip

    @pytest.mark.parametrize(("encoding", "charset"), [("utf-8", "UNICODE UTF-8"), ("gb18030", "GB 18030-2000")])
    def test_python_hl7_asyncio(self, tmp_path: Path, encoding: str, charset: str) -> None:
        """Chinese in both character sets, also with bytes that look like delimiters; the acknowledgment says its character set."""
        site = Site(tmp_path)
        sent = [admission("1", CHINESE, charset), admission("2", TRAILS, charset)]
        with site.running():
            told = self.python_client(port=site.port, encoding=encoding, messages=sent)
        assert (coded(told), {one["charset"] for one in told}) == (answers("1", "2"), {charset})
        assert [one.body for one in site.kept()] == [one.encode(encoding) for one in sent]

    def test_python_hl7_asyncio_pipelined(self, tmp_path: Path) -> None:
        """Two hundred messages before it reads anything: an answer for each, in order."""
        site = Site(tmp_path)
        ids = [str(number) for number in range(200)]
        with site.running():
            told = self.python_client(port=site.port, encoding="utf-8", messages=[admission(one) for one in ids], pipelined=True)
        assert coded(told) == answers(*ids)
        assert [one.control_id for one in site.kept()] == ids

    def test_python_hl7_asyncio_over_mutual_tls(self, tmp_path: Path) -> None:
        """Python's own TLS, and a message sent again on a second connection: the same answer, kept once."""
        authority = Authority.create(tmp_path / "authority", "test")
        site = Site(tmp_path / "site", {"tls": {"client_auth": "required"}})
        site.certify(authority)
        authority.issue("ward", out=tmp_path / "ward")
        asked = {"port": site.port, "encoding": "utf-8", "tls": files(tmp_path / "ward"), "messages": [admission("1")]}
        with site.running():
            assert coded(self.python_client(**asked)) == answers("1")
            assert coded(self.python_client(**asked)) == answers("1")
        assert [one.control_id for one in site.kept()] == ["1"]

    def test_mllp_client(self, tmp_path: Path) -> None:
        """python-hl7's blocking client, which takes one read for the answer: bytes of any character set, and what is no HL7 at all."""
        site = Site(tmp_path)
        with site.running(), MLLPClient("127.0.0.1", site.port) as client:
            assert b"MSA|AA|1" in client.send_message(admission("1", CHINESE, "GB 18030-2000").encode("gb18030"))
            assert b"MSA|AR|" in client.send_message("no HL7 at all")
        assert [one.verdict for one in site.kept()] == ["accepted", "invalid"]

    def test_mllp_send(self, tmp_path: Path) -> None:
        """python-hl7's command line, from a file of framed messages and a loose one of text lines."""
        framed, loose = tmp_path / "framed.hl7", tmp_path / "loose.hl7"
        framed.write_bytes(b"".join(b"\x0b" + admission(one).encode() + b"\x1c\r" for one in "12"))
        loose.write_text((admission("3") + admission("4")).replace("\r", "\n"))
        site = Site(tmp_path / "site")
        with site.running():
            for file, more in ((framed, []), (loose, ["--loose"])):
                command = [sys.executable, "-m", "hl7.client", "--port", str(site.port), "--file", str(file), *more, "127.0.0.1"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
                assert done.stdout.count("MSA|AA|") == 2, done.stdout
        assert [one.control_id for one in site.kept()] == list("1234")


def files(folder: Path) -> dict[str, str]:
    """What a party's process proves itself with."""
    names = {"ca": "ca.pem", "cert": "node.pem", "key": "node.key"}
    return {name: str(folder / file) for name, file in names.items()}


class TestReceivers:
    """What a site takes in goes on to them; their answers decide what becomes of it."""

    def site(self, folder: Path, port: int, **options: Any) -> Site:
        mllp = {"connect": f"localhost:{port}", "timeout": "5s", **options}
        retry = {"first": "10ms", "most": "100ms", "give_up_after": "1m"}
        return Site(folder, destinations=[{"name": "peer", "mllp": mllp, "order": "strict", "retry": retry}])

    def send(self, site: Site, *bodies: bytes) -> None:
        with MLLPClient("127.0.0.1", site.port) as client:
            assert all(b"MSA|AA|" in client.send_message(body) for body in bodies)

    @pytest.mark.parametrize(("encoding", "charset"), [("utf-8", "UNICODE UTF-8"), ("gb18030", "GB 18030-2000")])
    def test_python_hl7_server(self, tmp_path: Path, encoding: str, charset: str) -> None:
        """All over one connection, in order; the Chinese names arrive as they are."""
        names = [CHINESE, "Doe^Jo", TRAILS]
        with ForeignPeer(python_script(PEERS / "server.py"), encoding=encoding) as peer:
            site = self.site(tmp_path, peer.heard()["port"])
            with site.running():
                self.send(site, *(admission(str(number), name, charset).encode(encoding) for number, name in enumerate(names)))
                heard = [peer.heard() for _ in names]
        assert [(one["control_id"], one["family"], one["line"]) for one in heard] == [
            (str(number), name.partition("^")[0], 1) for number, name in enumerate(names)
        ]
        assert (site.delivered(), site.waiting()) == (["0", "1", "2"], 0)

    def test_python_hl7_server_refuses(self, tmp_path: Path) -> None:
        """AE and AR are dead letters with the reason; the next message is not held up by them."""
        with ForeignPeer(python_script(PEERS / "server.py"), encoding="utf-8") as peer:
            site = self.site(tmp_path, peer.heard()["port"])
            with site.running():
                self.send(site, *(admission(one).encode() for one in ("AE1", "AR2", "3")))
                assert [peer.heard()["control_id"] for _ in range(3)] == ["AE1", "AR2", "3"]
        assert (site.delivered(), site.dead()) == (["3"], {"AE1": "answered AE", "AR2": "answered AR"})

    @pytest.mark.parametrize("mishap", ["DROP", "HALF"])
    def test_python_hl7_server_drops_the_connection(self, tmp_path: Path, mishap: str) -> None:
        """Before its answer, or in the middle of it: the message comes again over a new connection, with the same control id, and
        before the one that follows it."""
        with ForeignPeer(python_script(PEERS / "server.py"), encoding="utf-8") as peer:
            site = self.site(tmp_path, peer.heard()["port"])
            with site.running():
                self.send(site, *(admission(one).encode() for one in ("1", mishap, "3")))
                heard = [peer.heard() for _ in range(4)]
        assert [(one["control_id"], one["line"]) for one in heard] == [("1", 1), (mishap, 1), (mishap, 2), ("3", 2)]
        assert (site.delivered(), site.waiting(), site.dead()) == (["1", mishap, "3"], 0, {})

    def node_server(self, folder: Path, **asked: Any) -> ForeignPeer:
        return ForeignPeer(node_script(PEERS / "server.mjs", "node-hl7-server", folder), **asked)

    def test_node_hl7_server(self, tmp_path: Path) -> None:
        """It never empties what it has read of a connection, and handles all of it again with each further message: one message a
        connection is what it can take. It refuses with AE and AR, and loses a connection."""
        sent = {"1": CHINESE, "2": "Doe^Jo", "AE3": "Roe^Al", "AR4": TRAILS, "DROP5": "Poe^Ed", "6": "Moe^X"}
        with self.node_server(tmp_path) as peer:
            site = self.site(tmp_path / "site", peer.heard()["port"], keep_open=False)
            with site.running():
                self.send(site, *(admission(one, name, "UNICODE UTF-8").encode() for one, name in sent.items()))
                heard = [peer.heard() for _ in range(7)]
        assert [one["control_id"] for one in heard] == ["1", "2", "AE3", "AR4", "DROP5", "DROP5", "6"]
        assert {one["control_id"]: one["family"] for one in heard} == {one: name.partition("^")[0] for one, name in sent.items()}
        assert (site.delivered(), site.dead()) == (["1", "2", "DROP5", "6"], {"AE3": "answered AE", "AR4": "answered AR"})

    def test_node_hl7_server_that_hears_two_messages_on_a_connection(self, tmp_path: Path) -> None:
        """It answers the first one again before the second: that answer is nobody's, and each message is settled by its own."""
        with self.node_server(tmp_path) as peer:
            site = self.site(tmp_path / "site", peer.heard()["port"])
            with site.running():
                self.send(site, admission("1").encode(), admission("AE2").encode())
                heard = [peer.heard()["control_id"] for _ in range(3)]
        assert heard == ["1", "1", "AE2"]
        assert (site.delivered(), site.dead()) == (["1"], {"AE2": "answered AE"})

    def test_node_hl7_server_over_mutual_tls(self, tmp_path: Path) -> None:
        """Node's TLS; it must be the party that the channel names, else nothing is sent to it."""
        authority = Authority.create(tmp_path / "authority", "test")
        authority.issue("ward", out=tmp_path / "ward", dns=("localhost",))
        with self.node_server(tmp_path, tls=files(tmp_path / "ward")) as peer:
            port = peer.heard()["port"]
            right = self.site(tmp_path / "right", port, tls={"peer": "ward"})
            wrong = self.site(tmp_path / "wrong", port, tls={"peer": "nation"})
            for site in (wrong, right):
                site.certify(authority)
                with site.running():
                    self.send(site, admission("1" if site is right else "2").encode())
                    if site is right:
                        assert peer.heard()["control_id"] == "1"
        assert (right.delivered(), wrong.delivered(), wrong.waiting()) == (["1"], [], 1)
        assert wrong.audited("tls.failed")[0]["reason"] == "the server is urn:meridian:party:ward, not nation"
