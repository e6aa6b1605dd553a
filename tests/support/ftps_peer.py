"""pyftpdlib's server over TLS, in a process of its own: ``python -m tests.support.ftps_peer JSON``; and the same for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from certs import Authority
from engine.bench.loopback import HOST, free_port
from tests.support.peers import ROOT, require
from tests.support.waiting import until_listening

USER, PASSWORD = "meridian", "correct horse"


class FtpsPeer:
    """``with FtpsPeer(tmp_path) as server:``; `server.files` is what clients see, `server.site` a site whose certs folder trusts it. Switches
    of the server: `without` are commands that it does not have, `client_certificate` whether it asks for one."""

    def __init__(self, folder: Path, **switches: Any) -> None:
        try:
            import pyftpdlib  # noqa: F401  only where a test needs it
        except ModuleNotFoundError:
            require(False, "pyftpdlib is not installed")
        self.folder, self.site, self.files = folder, folder / "site", folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._switches = switches
        authority = Authority.create(self.site / "certs", "files CA")
        authority.issue("files-server", out=folder / "server", dns=("localhost",), ips=(HOST,))
        authority.issue("hospital", out=self.site / "certs", dns=("localhost",), ips=(HOST,))
        (self.site / "password").write_text(PASSWORD)

    def __enter__(self) -> FtpsPeer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        asked = {"port": self.port, "folder": str(self.folder), "files": str(self.files), **self._switches}
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.support.ftps_peer", json.dumps(asked)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        until_listening(self.port)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def settings(self, **more: Any) -> dict[str, Any]:
        """For the option `ftps` of a channel."""
        return {"host": HOST, "port": self.port, "user": USER, "password": f"file:{self.site}/password", "folder": "/", **more}


def _serve(asked: dict[str, Any]) -> None:
    from OpenSSL import SSL
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import TLS_FTPHandler
    from pyftpdlib.servers import FTPServer

    folder = Path(asked["folder"])
    joined = folder / "server" / "joined.pem"
    joined.write_bytes((folder / "server/node.pem").read_bytes() + (folder / "server/node.key").read_bytes())
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, asked["files"], perm="elradfmwMT")
    without = asked.get("without", [])
    commands = {name: facts for name, facts in TLS_FTPHandler.proto_cmds.items() if name not in without}
    handler = type(
        "Handler",
        (TLS_FTPHandler,),
        {
            "certfile": str(joined),
            "keyfile": str(joined),
            "authorizer": authorizer,
            "tls_control_required": True,
            "tls_data_required": True,
            "proto_cmds": commands,
            "auth_failed_timeout": 0,
        },
    )
    if asked.get("client_certificate"):
        context = handler.get_ssl_context() if hasattr(handler, "get_ssl_context") else None
        context = context or SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(joined))
        context.use_privatekey_file(str(joined))
        context.load_verify_locations(str(folder / "site/certs/ca.pem"))
        context.set_session_id(b"ftps")  # data connections go on with the session of the control connection
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *found: bool(found[-1]))
        handler.ssl_context = context
    os.chdir(folder)
    FTPServer((HOST, asked["port"]), handler).serve_forever()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
