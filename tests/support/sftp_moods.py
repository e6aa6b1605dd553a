"""An SFTP server in this process that misbehaves as a test says: lets in by password, cuts the connection at a rename, has no extensions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh

from adapters.file.ssh.loop import Loop
from engine.bench.loopback import HOST

USER, PASSWORD = "hospital", "correct horse"


class MoodyServer:
    """``with MoodyServer(folder) as server:``; `cut_at_rename` says when a rename ends the connection: "" never, "before" or "after" it was
    done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cut_at_rename = ""
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = Loop()
        self._listener: Any = None

    def __enter__(self) -> MoodyServer:
        self._loop.take()
        self._listener = self._loop.run(
            asyncssh.listen(
                HOST,
                0,
                server_factory=_Entry,
                server_host_keys=[self.key],
                sftp_factory=lambda channel: _Files(channel, self),
                config=None,
            )
        )
        self.port = self._listener.get_port()
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._listener.close()
            await self._listener.wait_closed()

        self._loop.run(end())
        self._loop.give_back()

    def settings(self, password: Path, **more: Any) -> dict[str, Any]:
        password.write_text(PASSWORD)
        pinned = self.key.export_public_key().decode()
        return {"host": HOST, "port": self.port, "user": USER, "password": f"file:{password}", "host_key": pinned, "folder": "/", **more}


class _Entry(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        await asyncio.sleep(0)
        return (username, password) == (USER, PASSWORD)


class _Files(asyncssh.SFTPServer):
    def __init__(self, channel: Any, server: MoodyServer) -> None:
        super().__init__(channel, chroot=str(server.folder))
        self._server = server

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        mood = self._server.cut_at_rename
        if mood != "before":
            super().rename(oldpath, newpath)
        if mood:
            self._server.cut_at_rename = ""
            self.connection.abort()
