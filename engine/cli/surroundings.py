"""What is around a site, as `meridian doctor` looks at it: store, disk, ports, peers. Changes nothing, and connects to nobody unless that
was asked for."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine.cli.patient import Patient
from engine.examination import Finding, Level
from engine.options import Settings
from engine.store.schema import FILE

MOST_SECONDS: Final = 20.0
"""How long the store is looked through."""
CONNECT_SECONDS: Final = 5.0
SCARCE: Final = 5
"""Times the least free space: from there on it is said."""


def store(patient: Patient) -> Iterator[Finding]:
    """There, ours to write, and whole."""
    file = patient.data / FILE
    if not patient.data.is_dir():
        yield Finding(Level.OK, "store", f"{patient.data} is not there yet: the node has not run")
        return
    locked = [str(one) for one in (patient.data, *patient.data.glob(f"{FILE}*")) if not os.access(one, os.R_OK | os.W_OK)]
    if locked:
        yield Finding(Level.FAIL, "store", f"cannot be written by this user: {locked[0]}", "run as the node's user, or chown it to that")
        return
    if file.is_file():
        yield _integrity(file)


def _integrity(file: Path) -> Finding:
    until = time.monotonic() + MOST_SECONDS
    try:
        database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=CONNECT_SECONDS)
        try:
            database.set_progress_handler(lambda: int(time.monotonic() > until), 100_000)
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return Finding(Level.OK, "store", f"no damage found within {MOST_SECONDS:.0f} s; it is too big to be looked through whole")
        return Finding(Level.FAIL, "store", f"{file} cannot be read: {error}", _RESTORE)
    if said != "ok":
        return Finding(Level.FAIL, "store", f"{file} is damaged", _RESTORE)
    return Finding(Level.OK, "store", f"{file.stat().st_size >> 20} MB, no damage found")


_RESTORE: Final = "stop the node, keep a copy of the data folder, and restore it from a backup"


def disk(patient: Patient) -> Iterator[Finding]:
    """Below `min_free` every message is refused."""
    there = next(one for one in (patient.data, *patient.data.absolute().parents) if one.exists())
    free, least = shutil.disk_usage(there).free, int(patient.node.store.min_free)
    text = f"{free >> 20} MB are free for {patient.data}"
    if free < least:
        yield Finding(Level.FAIL, "disk", f"{text}, messages are refused below {least >> 20} MB", "free some space, or move the store")
    elif free < SCARCE * least:
        yield Finding(Level.WARN, "disk", f"{text}; below {least >> 20} MB messages are refused", "free some space, set store.retention")
    else:
        yield Finding(Level.OK, "disk", text)


def ports(patient: Patient) -> Iterator[Finding]:
    """Each listener's, by trying to take it."""
    wanted = [(part.name, address) for part in patient.parts if part.side == "source" for address in _listened(part.options)]
    if patient.node.http:
        wanted.append(("http", patient.node.http.listen))
    for name, address in wanted:
        if address and address[1]:
            yield _port(name, address, patient.running)


def _listened(options: Settings) -> list[Any]:
    """Where a source listens: it may say so of a part of it, such as a server of its own."""
    return [one["listen"] for one in (options, *options.values()) if isinstance(one, Settings) and "listen" in one]


def _port(name: str, address: tuple[str, int], running: bool) -> Finding:
    shown = f"{address[0] or '*'}:{address[1]} ({name})"
    error = _taken(address)
    if error == 0:
        if running:
            return Finding(
                Level.WARN, "ports", f"{shown}: nobody listens, and a node runs", "it runs with another configuration: restart it"
            )
        return Finding(Level.OK, "ports", f"{shown} is free")
    if error == errno.EADDRINUSE:
        if running:
            return Finding(Level.OK, "ports", f"{shown} is in use, the node runs")
        return Finding(Level.FAIL, "ports", f"{shown} is taken by another program", "stop that program, or listen on another port")
    if error == errno.EACCES:
        return Finding(
            Level.FAIL, "ports", f"{shown}: this user may not listen there", "take a port above 1023, or grant CAP_NET_BIND_SERVICE"
        )
    advice = "listen on an address of this machine, or only say the port"
    return Finding(Level.FAIL, "ports", f"{shown}: {os.strerror(error) if error > 0 else 'no such address'}", advice)


def _taken(address: tuple[str, int]) -> int:
    """0 where it can be listened on, otherwise why not (errno), -1 for a name that is none."""
    host, port = address
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        return -1
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(where)
            tried.listen(1)
        except OSError as error:
            return error.errno or -1
    return 0


def peers(patient: Patient) -> Iterator[Finding]:
    """Whom the site sends to: whether their names are known, and with --connect whether they can be reached."""
    for part in patient.parts:
        address = _address(part.options) if part.side == "destination" else None
        if address is not None:
            yield _peer(part.name, address, patient.connect)


def _address(options: Any) -> tuple[str, int] | None:
    if options.get("connect"):
        host, port = options.connect
        return host or "127.0.0.1", port
    if options.get("url"):
        url = urlsplit(str(options.url))
        return str(url.hostname), url.port or (443 if url.scheme == "https" else 80)
    return None


def _peer(name: str, address: tuple[str, int], connect: bool) -> Finding:
    host, port = address
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return Finding(Level.WARN, "peers", f"{name}: nobody knows the name {host}", "correct the name, the DNS or /etc/hosts")
    if not connect:
        return Finding(Level.OK, "peers", f"{name}: {host} is known")
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        return Finding(
            Level.WARN, "peers", f"{name}: {host}:{port} cannot be reached: {reason}", "look at the peer, and at firewalls between"
        )
    return Finding(Level.OK, "peers", f"{name}: {host}:{port} takes connections")
