"""A device that was registered by the command line enters a running node, over real TLS with its certificate and its token."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from certs import Authority
from engine.bench.loopback import HOST
from engine.entry.authorization_server import ASSERTION_TYPE
from tests.support.entry import private_key, public_pem, signed
from tests.support.sites import Site

OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/p1"}}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RULES = ("--may-send", "Observation", "--patient", "Patient/p1", "--requests-per-minute", "100")


class Ward(Site):
    """A site with a FHIR source, and terminal-7, which has a certificate and a key."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "site")
        self.base = f"https://localhost:{self.port}/fhir"
        auth = {"certificates": False, "tokens": {}}
        fhir = {"listen": f"{HOST}:{self.port}", "public_url": self.base, "tls": {"client_auth": "optional"}, "auth": auth}
        self._write("channels/lines.yaml", {"name": "lines", "source": {"fhir": fhir}, "destinations": [], "parties": "refuse"})
        authority = Authority.create(folder / "authority", "test")
        self.certify(authority)
        self.ca, self.own, self.key = folder / "authority/ca.pem", folder / "terminal-7", folder / "terminal-7.pub"
        authority.issue("terminal-7", out=self.own)
        self.lines: list[http.client.HTTPSConnection] = []
        self.key.write_text(public_pem(private_key("EC")))
        self.parties("add", "terminal-7", "--kind", "device", "--key", self.key, *RULES)

    def parties(self, *arguments: object) -> str:
        """`meridian parties`, in a process of its own."""
        command = [sys.executable, "-m", "engine", "parties", *map(str, arguments), "--site", str(self.folder)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def connect(self, *, shown: bool) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        if shown:
            context.load_cert_chain(self.own / "node.pem", self.own / "node.key")
        self.lines.append(http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60))
        return self.lines[-1]

    def assertion(self, number: int) -> str:
        (registered,) = json.loads(self.parties("show", "terminal-7", "--json"))["keys"]
        name = {"iss": "terminal-7", "sub": "terminal-7", "aud": f"{self.base}/token"}
        return signed({**name, "exp": int(time.time()) + 200, "jti": str(number)}, kid=json.loads(registered)["kid"])

    def token(self, line: http.client.HTTPSConnection, assertion: str) -> Any:
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "scope": "system/Observation.c"}
        line.request("POST", "/fhir/token", urlencode({**form, "client_assertion": assertion}), FORM)
        return json.loads(line.getresponse().read())


def post(line: http.client.HTTPSConnection, resource: Any, token: str) -> int:
    headers = {"Content-Type": "application/fhir+json", "Authorization": f"Bearer {token}"}
    line.request("POST", "/fhir/Observation", json.dumps(resource), headers)
    answer = line.getresponse()
    answer.read()
    return answer.status


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path)
    yield made
    for line in made.lines:
        line.close()


def test_a_device_enters_until_it_is_disabled(ward: Ward) -> None:
    """Its own patient is taken, another's is refused, kept and audited; once the command has ended the very next request on the open
    connection is refused, and so is a token that is asked for."""
    with ward.running():
        line = ward.connect(shown=True)
        token = ward.token(line, ward.assertion(1))["access_token"]
        assert post(line, OBSERVATION, token) == 202
        assert post(line, {**OBSERVATION, "subject": {"reference": "Patient/p2"}}, token) == 403
        assert post(ward.connect(shown=False), OBSERVATION, token) == 401
        ward.parties("disable", "terminal-7", "--reason", "stolen")
        assert post(line, OBSERVATION, token) == 401
        assert ward.token(ward.connect(shown=True), ward.assertion(2))["error"] == "invalid_client"
    assert [(one.peer, one.verdict) for one in ward.kept()] == [
        ("urn:meridian:party:terminal-7", "accepted"),
        ("urn:meridian:party:terminal-7", "refused"),
    ]
    assert [facts["status"] for facts in ward.audited("fhir.refused")] == ["403", "401", "401"]
    assert len(ward.audited("fhir.token_refused")) == 1
    assert token not in (ward.folder / "node.log").read_text()


def test_tokens_and_what_was_used_survive_the_node(ward: Ward) -> None:
    """After a restart the token is good, and the assertion that it was had for is not."""
    assertion = ward.assertion(1)
    with ward.running():
        token = ward.token(ward.connect(shown=True), assertion)["access_token"]
    with ward.running():
        line = ward.connect(shown=True)
        assert post(line, OBSERVATION, token) == 202
        assert ward.token(line, assertion)["error"] == "invalid_client"


def test_one_assertion_at_many_doors_at_once(ward: Ward) -> None:
    """Of twenty requests with the same assertion that are under way together one has a token."""
    assertion = ward.assertion(1)
    body = urlencode({"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion})
    with ward.running():
        lines = [ward.connect(shown=False) for _ in range(20)]
        for line in lines:
            line.connect()
        for line in lines:
            line.request("POST", "/fhir/token", body, FORM)
        answers = [json.loads(line.getresponse().read()) for line in lines]
    assert sorted(answer.get("error", "") for answer in answers) == ["", *["invalid_client"] * 19]
