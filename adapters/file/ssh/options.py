"""What a channel says of a place on an SFTP server."""

from __future__ import annotations

from typing import Final

from adapters.file.ssh.algorithms import OLD
from adapters.file.ssh.keys import PUBLIC_KEY
from engine.options import DURATION, TEXT, ListOf, Option, Settings, Spec, choice, integer
from engine.secrets import SECRET

OLD_ALGORITHMS: Final = Option(
    "old_algorithms", ListOf(choice(*OLD)), "algorithms that are no longer safe, for a peer that speaks nothing else", default=[]
)
PORT: Final = integer(1, 65535)


def _login(options: Settings) -> str:
    if options.key is None and options.password is None:
        return "needs 'key' (a private key's file) or 'password' (by reference)"
    if options.key_passphrase is not None and options.key is None:
        return "key_passphrase is for a key, and there is none"
    if bool(options.host_key) == (options.known_hosts is not None):
        return "needs either 'host_key' (the server's public key) or 'known_hosts' (a file): a server is never trusted unseen"
    return ""


SFTP: Final = Spec(
    "sftp",
    "A folder on an SFTP server.",
    [
        Option("host", TEXT, "the server's name or address", required=True),
        Option("port", PORT, "its port", default=22),
        Option("user", TEXT, "who we are there", required=True),
        Option("key", TEXT, "our private key's file, relative to the site"),
        Option("key_passphrase", SECRET, "what it is encrypted with; default: it is not"),
        Option("password", SECRET, "our password; beside a key where the server asks for both"),
        Option("host_key", ListOf(PUBLIC_KEY), "the server's public key; several while it is changed", default=[]),
        Option("known_hosts", TEXT, "file of public keys as OpenSSH's, relative to the site"),
        Option("folder", TEXT, "the folder there; relative to where the login leads", default="."),
        Option("connect_timeout", DURATION, "limit of connecting and logging in", default="30s"),
        Option("timeout", DURATION, "limit of one request", default="60s"),
        OLD_ALGORITHMS,
    ],
    check=_login,
)
