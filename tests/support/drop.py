"""Our own SFTP server without a node, and clients to put files into it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncssh

from adapters.file.drop.options import SERVE
from adapters.file.drop.place import DropPlace
from engine.bench.loopback import HOST
from tests.support.fhir import context
from tests.support.peers import PATIENCE, require
from tests.support.sftp_peer import keypair
from tests.support.waiting import until

USER = "county"


class StillReactor:
    """What the server asks of Twisted's: calls are done at once, where they are asked for."""

    later = 0.0
    """How far its clock is ahead."""

    def seconds(self) -> float:
        return time.monotonic() + self.later

    @staticmethod
    def callFromThread(function: Any, *arguments: Any, **named: Any) -> None:
        function(*arguments, **named)


class Dropping:
    """``with Dropping(tmp_path) as drop:``; `drop.place` listens, `drop.files` the folder of its user `county`. `disabled` are party URIs."""

    def __init__(self, folder: Path, **serve: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host_key = keypair(folder / "host")
        self.key = keypair(folder / "client")
        self.audited: list[tuple[str, dict[str, Any]]] = []
        self.disabled: set[str] = set()
        users = {USER: {"party": "county-hospital", "public_keys": [self.key]}}
        given = {"listen": f"{HOST}:0", "host_key": "host", "folder": "drop", "users": users, **serve}
        made = context(folder, StillReactor(), name="files", audit=lambda event, **facts: self.audited.append((event, facts)))
        self.context = dataclasses.replace(made, disabled=self.disabled.__contains__)
        self.serve = SERVE.defaults(**given)
        self.place = DropPlace(self.serve, self.context, "one")
        self.files = folder / "drop" / USER

    def __enter__(self) -> Dropping:
        self.place.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.place.stop_listening()

    @property
    def port(self) -> int:
        return self.place.port

    def events(self, name: str) -> list[dict[str, Any]]:
        return [facts for event, facts in self.audited if event == name]

    def until_audited(self, name: str) -> dict[str, Any]:
        until(lambda: self.events(name), f"the audit event {name}")
        return self.events(name)[0]

    def sftp(self, *commands: str, key: str = "client", user: str = USER) -> subprocess.CompletedProcess[str]:
        """OpenSSH's client in batch mode; it ends with 1 where a command fails."""
        return subprocess.run(
            [*self.openssh("sftp", key), "-b", "-", "-P", str(self.port), f"{user}@{HOST}"],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self.folder,
            timeout=PATIENCE,
            check=False,
        )

    def ssh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.openssh("ssh", "client"), "-p", str(self.port), f"{USER}@{HOST}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)

    def openssh(self, program: str, key: str) -> list[str]:
        return openssh(program, self.folder / key, self.host_key, self.port)

    def connecting(self, **more: Any) -> Any:
        """An asyncssh client's connection, which is a foreign one's as far as the server can tell."""
        given = {
            "username": USER,
            "client_keys": [str(self.folder / "client")],
            "known_hosts": ([asyncssh.import_public_key(self.host_key)], [], []),
            "config": None,
            "agent_path": None,
        }
        return asyncssh.connect(HOST, self.port, **{**given, **more})


def openssh(program: str, key: Path, host_key: str, port: int) -> list[str]:
    """OpenSSH's `sftp` or `ssh` with options of nothing but what the test says."""
    require(shutil.which(program) is not None, "openssh-client is not installed")
    known = key.with_suffix(".known_hosts")
    known.write_text(f"[{HOST}]:{port} {' '.join(host_key.split()[:2])}\n")
    options = {"UserKnownHostsFile": known, "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "BatchMode": "yes"}
    return [program, "-F", "none", "-i", str(key), *(f"-o{name}={value}" for name, value in options.items())]
