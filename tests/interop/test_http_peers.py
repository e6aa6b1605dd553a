"""Webhook libraries written elsewhere: what they sign is taken, what is signed here they verify; curl, and an aiohttp server with its own
token endpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from engine.bench.loopback import HOST
from tests.support.peers import ForeignPeer, node_script, require
from tests.support.plain_http import HttpPeer, HttpSite, send
from tests.support.waiting import until

PEERS = Path(__file__).parent / "http_peers"
SECRETS = {"github": "a shared secret, 张", "standard-webhooks": "whsec_" + b64encode(os.urandom(24)).decode()}
BODIES = [json.dumps({"id": str(number), "name": "张三\u2028é\\", "n": 1.50}, ensure_ascii=False) for number in range(1, 6)]


def script(name: str, folder: Path) -> list[str]:
    require((shutil.which("node") or "") != "", "node is not installed")
    node_script(PEERS / name, "standardwebhooks", folder)
    return node_script(PEERS / name, "@octokit/webhooks", folder)


@pytest.mark.parametrize("scheme", SECRETS)
def test_their_libraries_sign(tmp_path: Path, scheme: str) -> None:
    """Every body is taken, byte for byte; one that was changed after it was signed is not."""
    site = HttpSite(
        tmp_path / "site", {"control_id": "${id}", "credentials": {"signature": {"scheme": scheme, "secrets": ["env:OLD", "file:secret"]}}}
    )
    (site.folder / "secret").write_text(SECRETS[scheme], encoding="utf-8")
    command = script("sender.mjs", tmp_path)
    asked = {"scheme": scheme, "url": f"http://{HOST}:{site.http}/in", "secret": SECRETS[scheme]}
    os.environ["OLD"] = "b2xk"
    try:
        with site.running():
            for alter, status in (("", 202), (" ", 401)):
                with ForeignPeer(command, **asked, bodies=BODIES, alter=alter) as peer:
                    assert [said["status"] for said in peer.all_heard()] == [status] * len(BODIES)
    finally:
        del os.environ["OLD"]
    assert [one.body for one in site.kept()] == [body.encode() for body in BODIES]


@pytest.mark.parametrize("scheme", SECRETS)
def test_their_libraries_verify(tmp_path: Path, scheme: str) -> None:
    """What the destination signs, and nothing that is signed with another secret."""
    (tmp_path / "peer").mkdir()
    with ForeignPeer(script("receiver.mjs", tmp_path / "peer"), scheme=scheme, secret=SECRETS[scheme]) as peer:
        port = peer.heard()["port"]
        github = {"X-GitHub-Event": "order", "X-GitHub-Delivery": "${message.control_id}"}
        there = {"url": f"http://{HOST}:{port}/hook", "headers": github if scheme == "github" else {}, "permanent_on": [400]}
        destinations = [
            {"name": name, "http": {**there, "signature": {"scheme": scheme, "secret": f"file:{name}"}}} for name in ("right", "wrong")
        ]
        site = HttpSite(tmp_path / "site", {"control_id": "${id}"}, destinations=destinations)
        (site.folder / "right").write_text(SECRETS[scheme], encoding="utf-8")
        (site.folder / "wrong").write_text("whsec_" + b64encode(b"another").decode())
        with site.running():
            assert send(site.http, BODIES[0].encode()).status == 202
            said = [peer.heard(), peer.heard()]
            until(lambda: len(site.delivered()) == 1 and site.dead())
    (good,) = [one for one in said if "body" in one]
    assert json.loads(good["body"]) == json.loads(BODIES[0])
    assert [one for one in said if "refused" in one]


def test_standard_webhooks_for_python(tmp_path: Path) -> None:
    """Its own library signs, of a time that is right and one that is not; a replay is answered and kept once; it verifies what is sent on."""
    hook = Webhook(SECRETS["standard-webhooks"])
    peer = HttpPeer()
    signature = {"scheme": "standard-webhooks"}
    out = {"url": f"http://{HOST}:{peer.port}/", "signature": {**signature, "secret": "file:secret"}}
    site = HttpSite(
        tmp_path / "site",
        {"control_id": "${id}", "credentials": {"signature": {**signature, "secrets": "file:secret"}}},
        destinations=[{"name": "on", "http": out}],
    )
    (site.folder / "secret").write_text(SECRETS["standard-webhooks"])

    def signed(message_id: str, at: datetime) -> dict[str, str]:
        made = hook.sign(message_id, at, BODIES[0])
        return {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": made}

    now = datetime.now(UTC)
    with site.running():
        assert send(site.http, BODIES[0].encode(), headers=signed("m1", now)).status == 202
        assert send(site.http, BODIES[0].encode(), headers=signed("m1", now)).status == 202
        assert send(site.http, BODIES[0].encode(), headers=signed("m2", now - timedelta(hours=1))).status == 401
        until(lambda: site.delivered() == ["1"])
    peer.stop()
    (asked,) = peer.requests
    assert hook.verify(asked.body, dict(asked.headers)) == json.loads(BODIES[0])
    with pytest.raises(WebhookVerificationError):
        hook.verify(asked.body + b" ", dict(asked.headers))


def test_curl(tmp_path: Path) -> None:
    """A file that is compressed by the sender, a token out of a file, and 100-continue: a body that is refused is never sent."""
    require(shutil.which("curl") is not None, "curl is not installed")
    site = HttpSite(tmp_path / "site", {"credentials": {"tokens": "file:token"}, "content": "any"})
    (site.folder / "token").write_text("t0ken")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3 << 20))

    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "-o", "-", "-w", " %{http_code} %{size_upload}", "-H", "Content-Type: application/pdf", *arguments]
        done = subprocess.run([*command, f"http://{HOST}:{site.http}/in"], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "60")
    with site.running():
        assert curl("-T", str(big), *expect, "-H", "Authorization: Bearer t0ken").endswith(f" 202 {3 << 20}")
        assert curl("-T", str(big), *expect, "-H", "Authorization: Bearer wrong").endswith(" 401 0")
        assert '"status":401' in curl("--data-binary", f"@{big}")
    assert [one.verdict for one in site.kept()] == ["accepted"]


AIOHTTP = """
import asyncio, json, sys
from aiohttp import BasicAuth, web
from urllib.parse import unquote_plus

async def token(request):
    form = await request.post()
    login, password = form.get("client_id"), form.get("client_secret")
    if "Authorization" in request.headers:
        auth = BasicAuth.decode(request.headers["Authorization"])
        login, password = unquote_plus(auth.login), unquote_plus(auth.password)
    if (login, password, form["grant_type"]) != ("lab", "s3cret:+", "client_credentials"):
        return web.json_response({"error": "invalid_client"}, status=401)
    return web.json_response({"access_token": "granted", "token_type": "bearer", "expires_in": 60})

async def results(request):
    if request.headers.get("Authorization") != "Bearer granted":
        return web.json_response({"error": "no"}, status=401)
    print(json.dumps({"path": request.match_info["patient"], "json": await request.json(), "key": request.headers["Idempotency-Key"]}), flush=True)
    return web.json_response({"result": {"code": 0}}, status=201)

async def main():
    app = web.Application()
    app.add_routes([web.post("/token", token), web.put("/patients/{patient}/results", results)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"port": site._server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_an_interface_with_tokens(tmp_path: Path, method: str) -> None:
    """aiohttp's own parsing of Basic, of the form, of the path and of the JSON: all that a result has reaches it as it was."""
    (tmp_path / "server.py").write_text(AIOHTTP)
    with ForeignPeer([sys.executable, str(tmp_path / "server.py")]) as peer:
        root = f"http://{HOST}:{peer.heard()['port']}"
        out: dict[str, Any] = {
            "url": root + "/patients/${patient.no}/results",
            "method": "PUT",
            "auth": {"oauth2": {"token_url": root + "/token", "client_id": "lab", "client_secret": "file:secret", "method": method}},
            "body": {"json": {"name": "${patient.name}", "value": {"number": "${value}"}}},
            "accepted_when": {"path": "result.code", "accepted": ["0"]},
        }
        site = HttpSite(tmp_path / "site", {"control_id": "${id}"}, destinations=[{"name": "there", "http": out}])
        (site.folder / "secret").write_text("s3cret:+")
        with site.running():
            send(site.http, json.dumps({"id": "1", "patient": {"no": "P/1 ä", "name": '张"三'}, "value": "4.50"}).encode())
            heard = peer.heard()
            until(lambda: site.delivered() == ["1"], seconds=6)
    assert (heard["path"], heard["json"]) == ("P/1 ä", {"name": '张"三', "value": 4.5})
    assert heard["key"]
