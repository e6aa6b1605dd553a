"""Terminals that were offline, as HTTP clients of a node in a process of its own, and what of their lines the node has kept."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from tests.support.sites import Site

NDJSON = "application/fhir+ndjson"
PREFIX = "urn:meridian:fhir:upload:"


class FhirSite(Site):
    """A node with the one channel `lines`, from a FHIR port."""

    def __init__(self, folder: Path, fhir: dict[str, Any] | None = None, **channel: Any) -> None:
        self.fhir = free_port()
        super().__init__(folder, source={"fhir": {"listen": f"{HOST}:{self.fhir}", **(fhir or {})}}, **channel)

    def numbers(self, verdict: str = "accepted") -> list[int]:
        """The sequence numbers of what was kept, in the order of arrival."""
        sql = "SELECT json_extract(facts, '$.\"device.sequence\"') FROM message WHERE verdict = ? ORDER BY id"
        return [int(row[0]) for row in self._rows_of(sql, verdict)]

    def facts(self) -> list[dict[str, str]]:
        return [json.loads(row[0]) for row in self._rows("SELECT facts FROM message ORDER BY id")]

    def keys(self) -> set[str]:
        """Those under which what is queued keeps its order."""
        return {row[0] for row in self._rows("SELECT DISTINCT order_key FROM queue")}

    def _rows_of(self, sql: str, value: str) -> list[Any]:
        return self._rows(sql.replace("?", f"'{value}'"))


@dataclass(frozen=True)
class Told:
    """One OperationOutcome of an answer."""

    outcome: dict[str, Any]

    def fact(self, name: str) -> Any:
        """The first extension of that name."""
        return next(iter(self.facts(name)), None)

    def facts(self, name: str) -> list[Any]:
        found = [one for one in self.outcome["extension"] if one["url"] == PREFIX + name]
        return [value for one in found for key, value in one.items() if key != "url"]

    @property
    def result(self) -> str:
        return str(self.fact("result"))

    @property
    def text(self) -> str:
        return " | ".join(issue["diagnostics"] for issue in self.outcome["issue"])

    @property
    def expressions(self) -> list[str]:
        return [one for issue in self.outcome["issue"] for one in issue.get("expression", [])]


@dataclass(frozen=True)
class Heard:
    """An answer to an upload."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> list[Told]:
        return [Told(json.loads(line)) for line in self.body.splitlines()]

    @property
    def lines(self) -> list[Told]:
        return self.told[:-1]

    @property
    def summary(self) -> Told:
        return self.told[-1]

    @property
    def results(self) -> list[str]:
        return [one.result for one in self.lines]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.results)


@dataclass(frozen=True)
class Terminal:
    """`device` is the name that it gives itself."""

    port: int
    device: str = "cart-7"
    tls: ssl.SSLContext | None = None

    def upload(self, lines: Iterable[bytes] | bytes, first: int | None = 1, *, packed: bool = False, **headers: str) -> Heard:
        body = lines if isinstance(lines, bytes) else b"".join(line + b"\n" for line in lines)
        named = {"Content-Type": NDJSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if packed:
            body, named["Content-Encoding"] = gzip.compress(body), "gzip"
        return self.ask("POST", self.target(first), body, named)

    def target(self, first: int | None = None) -> str:
        return f"/fhir/$upload?device={self.device}" + (f"&first={first}" if first is not None else "")

    def ask(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Heard:
        connection = self._connection()
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return Heard(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(HOST, self.port, timeout=300)
        return http.client.HTTPSConnection("localhost", self.port, timeout=300, context=self.tls)

    def standing(self) -> dict[str, Any]:
        """`missing` as (first, last)."""
        heard = self.ask("GET", self.target())
        assert heard.status == 200, heard
        found: dict[str, Any] = {"missing": []}
        for one in json.loads(heard.body)["parameter"]:
            if one["name"] == "missing":
                found["missing"].append(tuple(part["valueDecimal"] for part in one["part"]))
            else:
                found[one["name"]] = one.get("valueDecimal", one.get("valueString"))
        return found

    def begin(self, lines: Sequence[bytes], first: int = 1, length: int = 1 << 30) -> socket.socket:
        """An upload that says it is longer, and does not end."""
        connection = socket.create_connection((HOST, self.port), timeout=60)
        head = f"POST {self.target(first)} HTTP/1.1\r\nHost: a\r\nContent-Type: {NDJSON}\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode() + b"".join(line + b"\n" for line in lines))
        return connection


def observation(number: int, **elements: Any) -> bytes:
    """What a terminal has measured, with the time that it says."""
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "temperature"},
        "effectiveDateTime": "2026-11-20T08:30:00+08:00",
        "valueQuantity": {"value": 36 + number % 40 / 10, "unit": "C"},
        "note": [{"text": f"n{number}"}],
        **elements,
    }
    return json.dumps(made).encode()


def observations(first: int, last: int) -> list[bytes]:
    return [observation(number) for number in range(first, last + 1)]


def tagged(sequence: int, **elements: Any) -> bytes:
    """One that says its own number."""
    return observation(sequence, meta={"tag": [{"system": PREFIX + "sequence", "code": str(sequence)}]}, **elements)
