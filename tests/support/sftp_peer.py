"""OpenSSH's server on a free port, for the user that runs the tests: a folder that clients see as theirs."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from tests.support.peers import require
from tests.support.waiting import until_listening

_CONFIG = """
ListenAddress {host}:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 300
MaxSessions 300
Subsystem sftp internal-sftp {sftp}
ForceCommand internal-sftp {sftp} -d {files}
{more}
"""


def keypair(file: Path, kind: str = "ed25519", phrase: str = "") -> str:
    """A private key, and beside it the public one, which is given."""
    require(shutil.which("ssh-keygen") is not None, "openssh-client is not installed")
    for old in (file, file.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", phrase, "-C", "test", "-f", str(file)], check=True)
    return file.with_suffix(".pub").read_text().strip()


class OpenSsh:
    """``with OpenSsh(tmp_path) as server:``; `server.files` is what clients see. `sftp` are arguments of the SFTP server, `more` further
    lines of sshd_config."""

    def __init__(self, folder: Path, sftp: str = "", more: str = "", files: Path | None = None) -> None:
        require(Path("/usr/sbin/sshd").exists(), "openssh-server is not installed")
        self.folder = folder
        self.files = files or folder / "files"
        self.port = free_port()
        self._sftp, self._more = sftp, more
        folder.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)
        self.host_key = keypair(folder / "host")
        keypair(folder / "client")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def __enter__(self) -> OpenSsh:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        asked = {"host": HOST, "port": self.port, "folder": self.folder, "files": self.files, "sftp": self._sftp, "more": self._more}
        config.write_text(_CONFIG.format(**asked))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until_listening(self.port)

    def halt(self, which: signal.Signals) -> None:
        """SIGSTOP and SIGCONT for all that serves."""
        for pid in (self._process.pid, *_descendants(self._process.pid)):
            os.kill(pid, which)

    def kill(self) -> None:
        """At once, with the connections that it serves: they are processes of their own sessions."""
        pids = [self._process.pid, *_descendants(self._process.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def settings(self, **more: Any) -> dict[str, Any]:
        """For the option `sftp` of a channel; the key's path is absolute."""
        pinned = {} if "known_hosts" in more else {"host_key": self.host_key}
        return {
            "host": HOST,
            "port": self.port,
            "user": getpass.getuser(),
            "key": str(self.folder / "client"),
            "folder": str(self.files),
            **pinned,
            **more,
        }


def _descendants(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            child = int(status.parent.name)
            found += [child, *_descendants(child)]
    return found
