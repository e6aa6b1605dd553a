"""SFTP: files on another machine's SSH server, and a server of our own where others put theirs (package asyncssh; ADR 037)."""
