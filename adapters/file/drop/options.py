"""What a channel says of the SFTP server that it runs."""

from __future__ import annotations

import re
from typing import Final

from adapters.file.ssh.keys import PUBLIC_KEY
from adapters.file.ssh.options import OLD_ALGORITHMS
from engine.options import ADDRESS, DURATION, SIZE, TEXT, ListOf, MapOf, Option, Settings, Spec, integer
from engine.tls import PARTY

USER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")


def _some_key(user: Settings) -> str:
    return "" if user.public_keys else "needs a public key"


USER: Final = Spec(
    "user",
    "Who may put files here.",
    [
        Option("party", PARTY, "the party whose keys these are; default: the user's name"),
        Option("public_keys", ListOf(PUBLIC_KEY), "public keys, each one line as in a .pub file", required=True),
    ],
    check=_some_key,
)


def _users_and_keys(options: Settings) -> str:
    """A key proves one party, so that it is never open who has sent."""
    owners: dict[str, str] = {}
    for name, user in options.users.items():
        if not USER_NAME.fullmatch(name):
            return f"{name!r} cannot be a user: lower-case letters, digits, dot, dash and underscore, at most 32"
        for key in user.public_keys:
            if owners.setdefault(key, name) != name:
                return f"users {owners[key]} and {name} have the same key"
    return "" if options.users else "needs at least one user"


SERVE: Final = Spec(
    "serve",
    "An SFTP server of our own, where others put files.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("host_key", ListOf(TEXT), "private keys that prove the server, relative to the site", required=True),
        Option("folder", TEXT, "where the users' folders are, relative to the site", required=True),
        Option("users", MapOf(USER), "who may come, by user name", required=True),
        Option("most_size", SIZE, "largest file", default="2GB"),
        Option("quota_size", SIZE, "what one user's files that were not taken in yet may have together", default="10GB"),
        Option("quota_files", integer(1, 1_000_000), "how many such files one user may have", default=10000),
        Option(
            "half_written",
            ListOf(TEXT),
            "names that a sender may still remove or rename",
            default=["*.part", "*.partial", "*.filepart", "*.tmp"],
        ),
        Option("tries", integer(1, 1000), "failed logins per minute and address before it must wait", default=10),
        Option("most_connections", integer(1, 10000), "connections at a time", default=100),
        Option("most_per_address", integer(1, 10000), "connections at a time of one address", default=20),
        Option("login_timeout", DURATION, "limit of logging in", default="20s"),
        Option("idle", DURATION, "close a connection without requests after this", default="5m"),
        Option("longest", DURATION, "close a connection after this, whatever it does", default="12h"),
        OLD_ALGORITHMS,
    ],
    check=_users_and_keys,
)
