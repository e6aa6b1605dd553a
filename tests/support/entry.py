"""A FHIR source whose parties must enter by certificate or token, on a wire in memory; clients that sign, by another JOSE library."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from twisted.internet.address import IPv4Address
from twisted.internet.defer import execute
from twisted.internet.task import Clock

from adapters.fhir import adapter
from engine.entry.authorization_server import ASSERTION_TYPE
from engine.identity import party_uri
from engine.parties import Kind, Party, Snapshot
from engine.parties.keys import public_keys
from tests.support.fhir import START, RepositoryIntake, context
from tests.support.http_desk import answers
from tests.support.mllp import Transport
from tests.support.uploads import Heard

BASE = "https://meridian.example/fhir"
TOKEN = f"{BASE}/token"


@cache
def private_key(kind: str, number: int = 1) -> Any:
    """RSA or EC; another one for each number."""
    return generate_rsa_key(65537, 2048) if kind == "RSA" else generate_private_key(SECP384R1())


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def private_pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[no-any-return]


def jwk(key: Any, kid: str) -> str:
    """The one public key as it is registered."""
    (plain,) = public_keys(public_pem(key))
    return public_keys(json.dumps({**json.loads(plain), "kid": kid}))[0]


def signed(claims: dict[str, Any], key: Any = None, kid: str | None = "k1", **header: Any) -> str:
    """A JWT by joserfc."""
    key = key or private_key("EC")
    kind, algorithm = (ECKey, "ES384") if hasattr(key, "curve") else (RSAKey, "RS384")
    head = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {}), **header}
    return jwt.encode(head, claims, kind.import_key(private_pem(key)), algorithms=[head["alg"]])


def device(name: str = "terminal-7", **more: Any) -> Party:
    return Party(name, Kind.DEVICE, **{"keys": (jwk(private_key("EC"), "k1"),), "may_send": ("Observation", "Patient"), **more})


class Guarded:
    """The source; `parties` are registered, `audited` what was audited, `intake.envelopes` what came in."""

    def __init__(self, data: Path, *parties: Party, auth: dict[str, Any] | None = None, intake: Any = None, **options: Any) -> None:
        self.clock: Any = Clock()
        self.clock.listenTCP = lambda *_, **__: SimpleNamespace(stopListening=lambda: None)
        self.now, self.data = START, data
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.register(*parties)
        self.shown = SimpleNamespace(peer="", thumbprint="")
        tls = SimpleNamespace(peer=lambda _: self.shown.peer, thumbprint=lambda _: self.shown.thumbprint)
        self.context = replace(
            context(data, self.clock, tls=tls, audit=lambda event, **facts: self.audited.append((event, facts)), clock=lambda: self.now),
            parties=lambda: self.snapshot,
        )
        self.intake = intake or RepositoryIntake()
        self._options = {"listen": "127.0.0.1:0", "public_url": BASE, "auth": {"tokens": {}} if auth is None else auth, **options}
        self.start()

    def start(self) -> None:
        assert adapter.source_options is not None
        self.source: Any = adapter.source(adapter.source_options.defaults(**self._options), self.context)
        reception = self.source._reception
        for one in (reception._entrance, self.source._uploads.journals, self.source._reads):
            one._in_thread = execute
        reception.in_thread = execute
        reception._pool = SimpleNamespace(start=lambda: None, stop=lambda: None, joined=True)
        self.source.start(self.intake)
        reception._options = SimpleNamespace(**{**reception._options, "tls": SimpleNamespace(allow=[])})  # this wire shows certificates

    def restart(self) -> None:
        self.source.stop()
        self.start()

    def register(self, *parties: Party) -> None:
        self.snapshot = Snapshot(parties)

    def disable(self, name: str) -> None:
        self.register(*(replace(one, disabled_at=1) if one.id == name else one for one in self.snapshot.parties.values()))

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)
        self.clock.advance(seconds)

    # --- requests ----------------------------------------------------------------------------------

    def connect(self, party: str = "", thumbprint: str = "") -> Connected:
        return Connected(self, party_uri(party) if party else "", thumbprint)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        return self.connect().ask(method, path, body, **headers)

    def claims(self, client: str = "terminal-7", **other: Any) -> dict[str, Any]:
        """Right ones, each time with another jti; None takes one away."""
        seconds = self.now // 1_000_000
        self._number = getattr(self, "_number", 0) + 1
        made = {"iss": client, "sub": client, "aud": TOKEN, "exp": seconds + 240, "jti": f"j{self._number}", **other}
        return {name: value for name, value in made.items() if value is not None}

    def token(self, client: str = "terminal-7", scope: str = "system/*.cruds", **how: Any) -> str:
        answer = self.connect(**how).form(scope=scope, client_assertion=signed(self.claims(client)))
        assert answer.status == 200, answer.said
        return str(answer.said["access_token"])


class Answered:
    def __init__(self, found: tuple[int, bytes, str]) -> None:
        self.status, self.body, self.head = found

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class Connected:
    """One connection, with what its certificate shows."""

    def __init__(self, to: Guarded, peer: str, thumbprint: str) -> None:
        self._to, self._shown = to, SimpleNamespace(peer=peer, thumbprint=thumbprint)
        self.connection = to.source._reception._server.buildProtocol(None)
        self.transport: Any = Transport(peerAddress=IPv4Address("TCP", "10.0.0.9", 4444))
        self.connection.makeConnection(self.transport)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answered:
        fields = {"Host": "h", "Content-Length": str(len(body)), "Content-Type": "application/fhir+json"}
        fields |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return self.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def raw(self, wire: bytes) -> Answered:
        self._to.shown = self._shown
        before = len(answers(self.transport))
        self.connection.dataReceived(wire)
        return Answered(answers(self.transport)[before])

    def form(self, **fields: str) -> Answered:
        """Ask for a token."""
        said = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, **fields}
        body = urlencode({name: value for name, value in said.items() if value}).encode()
        return self.ask("POST", "/fhir/token", body, content_type="application/x-www-form-urlencoded")

    def upload(self, *lines: Any, query: str = "device=cart&first=1", token: str = "") -> Heard:
        """Lines of an upload; what is not bytes is written as JSON."""
        body = b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.begin(body, len(body), query, **headers)
        return self.told()

    def begin(self, body: bytes, length: int, query: str = "device=cart&first=1", **headers: str) -> None:
        """An upload of `length` bytes, and the first of them."""
        self._to.shown = self._shown
        fields = {"Host": "h", "Content-Length": str(length), "Content-Type": "application/fhir+ndjson"}
        lines = "".join(f"{name.title()}: {value}\r\n" for name, value in {**fields, **headers}.items())
        self.connection.dataReceived(f"POST /fhir/$upload?{query} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def told(self) -> Heard:
        """What has been said of an upload."""
        status, body, _ = answers(self.transport)[-1]
        return Heard(status, {}, body)

    def post(self, resource: Any, token: str = "", path: str = "") -> Answered:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.ask("POST", f"/fhir/{path or resource['resourceType']}", json.dumps(resource).encode(), **headers)
