"""vsftpd, the FTP server of many Linux machines: no machine-readable listings, data connections only in the session of the control
connection. It runs as root, as its users are the system's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from certs import Authority
from engine.bench.loopback import HOST, free_port
from tests.support.peers import require
from tests.support.waiting import until_listening

_CONFIG = """
listen=YES
listen_address={host}
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=YES
anon_root={files}
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
ssl_ciphers=HIGH
rsa_cert_file={folder}/server/node.pem
rsa_private_key_file={folder}/server/node.key
xferlog_enable=NO
"""


class Vsftpd:
    """``with Vsftpd(folder) as server:``; `folder` and those above it let every user through."""

    def __init__(self, folder: Path) -> None:
        require(shutil.which("vsftpd") is not None and os.geteuid() == 0, "vsftpd is not installed, or the tests are not run by root")
        self.folder, self.site, self.files = folder, folder / "site", folder / "files"
        self.files.mkdir(parents=True)
        self.files.chmod(0o755)  # it refuses a root that its users may write to
        for one in (folder, *folder.parents):
            one.chmod(one.stat().st_mode | 0o111)
        self.port = free_port()
        authority = Authority.create(self.site / "certs", "files CA")
        authority.issue("files-server", out=folder / "server", dns=("localhost",), ips=(HOST,))
        (self.site / "password").write_text("anybody@hospital.example")

    def __enter__(self) -> Vsftpd:
        Path("/var/run/vsftpd/empty").mkdir(parents=True, exist_ok=True)
        config = self.folder / "vsftpd.conf"
        config.write_text(_CONFIG.format(host=HOST, port=self.port, files=self.files, folder=self.folder).lstrip())
        self._process = subprocess.Popen(["vsftpd", str(config)], stdin=subprocess.DEVNULL, start_new_session=True)
        until_listening(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def settings(self, **more: Any) -> dict[str, Any]:
        """For the option `ftps` of a channel."""
        secret = f"file:{self.site}/password"
        return {"host": HOST, "port": self.port, "user": "anonymous", "password": secret, "folder": "/", **more}
