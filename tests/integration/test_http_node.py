"""A node that is posted to: what is kept, told apart and delivered; two nodes in a row; a channel that answers with another server's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.bench.loopback import HOST
from tests.support.plain_http import HttpPeer, HttpSite, hub_signature, send
from tests.support.waiting import until

SIGNED = {"credentials": {"signature": {"scheme": "github", "secrets": "file:secret"}}, "control_id": "${id}"}


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    made = HttpPeer()
    yield made
    made.stop()


def to(peer: HttpPeer, **options: object) -> list[dict[str, object]]:
    """A channel's only destination."""
    return [{"name": "there", "http": {"url": f"http://{HOST}:{peer.port}/there", **options}, "retry": {"first": "50ms"}}]


def test_the_same_again(tmp_path: Path, peer: HttpPeer) -> None:
    """Delivered once, across a restart too, and answered alike; its key with other content is 422 and kept; at once, many times: once."""
    site = HttpSite(tmp_path / "site", {"control_id": "${id}", "answer": {"body": {"key": "${message.key}"}}}, destinations=to(peer))
    key = {"Idempotency-Key": "k1"}
    with site.running():
        first = send(site.http, b'{"id": 1}', headers=key)
        assert (first.status, first.json) == (202, {"key": "k1"})
        again = send(site.http, b'{"id": 1}', headers=key)
        assert (again.status, again.body) == (202, first.body)
    with site.running():
        assert send(site.http, b'{"id": 1}', headers=key).status == 202
        other = send(site.http, b'{"id": 2}', headers=key)
        assert (other.status, other.json["detail"]) == (422, "this idempotency key was used before for other content")
        with ThreadPoolExecutor(16) as threads:
            said = list(threads.map(lambda _: send(site.http, b'{"id": 3}', headers={"Idempotency-Key": "k3"}), range(16)))
        assert {(one.status, one.body) for one in said} == {(202, b'{"key":"k3"}')}
        until(lambda: len(peer.requests) == 2)
    assert [(one.control_id, one.verdict) for one in site.kept()] == [("1", "accepted"), ("2", "invalid"), ("3", "accepted")]
    assert [one.body for one in peer.requests] == [b'{"id": 1}', b'{"id": 3}']


def test_a_signed_request_that_was_caught(tmp_path: Path, peer: HttpPeer) -> None:
    """Sent again under another delivery identifier, after a restart: answered as the first, delivered once."""
    site = HttpSite(tmp_path / "site", SIGNED, destinations=to(peer))
    (site.folder / "secret").write_text("shared")
    body = b'{"id": 1}'
    signed = {"X-Hub-Signature-256": hub_signature("shared", body)}
    for number in ("one", "two"):
        with site.running():
            assert send(site.http, body, headers={**signed, "X-GitHub-Delivery": number}).status == 202
            assert send(site.http, body + b" ", headers=signed).status == 401
    assert [one.control_id for one in site.kept()] == ["1"]
    assert len(peer.requests) == 1
    assert {record["status"] for record in site.audited("http.refused")} == {"401"}


def test_a_filter_over_posted_json(tmp_path: Path, peer: HttpPeer) -> None:
    """What `accept` refuses is kept and answered as the channel says; a route looks into the content."""
    destinations = [{**to(peer)[0], "when": "message['order.kind'] == 'lab'"}]
    site = HttpSite(
        tmp_path / "site",
        {"control_id": "${order.no}", "type": "${event}", "answer": {"refused": 200}},
        accept=["message.type in ['order.new']"],
        destinations=destinations,
    )
    with site.running():
        for number, (event, kind) in enumerate((("order.new", "lab"), ("order.new", "rad"), ("order.gone", "lab"))):
            said = send(site.http, json.dumps({"event": event, "order": {"no": str(number), "kind": kind}}).encode())
            assert said.status == (200 if event == "order.gone" else 202)
        until(lambda: site.delivered() == ["0"])
    assert [one.verdict for one in site.kept()] == ["accepted", "accepted", "refused"]
    assert len(peer.requests) == 1


def test_the_sender_hears_another_servers_answer(tmp_path: Path, peer: HttpPeer) -> None:
    """Its status, type and content; what it refuses is heard too, and a repetition hears the same without asking again."""
    peer.answers = lambda asked: (404 if b"bad" in asked.body else 201, b"<made/>", {"Content-Type": "text/xml", "Location": "/made/1"})
    site = HttpSite(tmp_path / "site", destinations=to(peer), answer="from there")
    with site.running():
        made = send(site.http, headers={"Idempotency-Key": "k"})
        assert (made.status, made.headers["Content-Type"], made.headers["Location"], made.body) == (201, "text/xml", "/made/1", b"<made/>")
        assert send(site.http, headers={"Idempotency-Key": "k"}).body == b"<made/>"
        assert len(peer.requests) == 1
        assert send(site.http, b'{"bad": 1}').status == 404


def test_from_node_to_node(tmp_path: Path) -> None:
    """A token, a signature with identifier and time, big content from file to file, and the key of the first node is that of the second."""
    far = HttpSite(
        tmp_path / "far",
        {
            "content": ["json", "any"],
            "credentials": {
                "tokens": {"secret": "file:token", "party": "near"},
                "signature": {"scheme": "standard-webhooks", "secrets": "file:key"},
            },
        },
    )
    out = {
        "url": f"http://{HOST}:{far.http}/in",
        "auth": {"bearer": "file:token"},
        "signature": {"scheme": "standard-webhooks", "secret": "file:key"},
    }
    near = HttpSite(tmp_path / "near", {"content": ["json", "any"]}, destinations=[{"name": "far", "http": out}])
    for site in (near, far):
        (site.folder / "token").write_text("t0ken")
        (site.folder / "key").write_text("whsec_c2VjcmV0IG9mIHR3byBub2Rlcw==")
    big = bytes(range(256)) * (80 << 10)
    with far.running(), near.running():
        assert send(near.http, b'{"a": 1}').status == 202
        assert send(near.http, big, headers={"Content-Type": "application/octet-stream"}).status == 202
        until(lambda: len(near.delivered()) == 2)
    assert sorted(len(one.body or b"") for one in far.kept()) == [0, 8]
    assert {one.peer for one in far.kept()} == {"urn:meridian:party:near"}


def test_memory_is_flat(tmp_path: Path) -> None:
    """200 MB in, signed: what is computed over it is computed as it comes."""
    site = HttpSite(tmp_path / "site", {**SIGNED, "content": "any", "control_id": [], "most_body": "300MB"})
    (site.folder / "secret").write_text("shared")
    block = bytes(1 << 20)
    import hashlib
    import hmac

    mac = hmac.new(b"shared", digestmod=hashlib.sha256)
    for _ in range(200):
        mac.update(block)
    headers = {"Content-Type": "application/octet-stream", "X-Hub-Signature-256": f"sha256={mac.hexdigest()}"}
    with site.running() as node:
        before = node.resident_bytes
        said = send(site.http, iter([block] * 200), headers=headers)
        assert said.status == 202, said
        assert node.resident_bytes - before < 64 << 20
    assert [one.verdict for one in site.kept()] == ["accepted"]
