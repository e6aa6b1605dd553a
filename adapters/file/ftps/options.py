"""What a channel says of a place on an FTPS server."""

from __future__ import annotations

from typing import Final

from adapters.file.ssh.options import PORT
from engine.options import DURATION, TEXT, Option, Settings, Spec, choice
from engine.secrets import SECRET


def _whole_identity(options: Settings) -> str:
    return "" if (options.certificate is None) == (options.key is None) else "a certificate needs its key, and a key its certificate"


TLS: Final = Spec(
    "tls",
    "Whom the server must prove to be, and how we prove ourselves. Files are relative to the certs folder.",
    [
        Option("ca", TEXT, "the authorities that the server's certificate must come from; system: those of the machine", default="ca.pem"),
        Option("certificate", TEXT, "our certificate chain, where the server asks for one"),
        Option("key", TEXT, "its private key"),
        Option("key_passphrase", SECRET, "what the private key is encrypted with; default: it is not"),
        Option("min_version", choice("1.2", "1.3"), "lowest TLS version", default="1.2"),
    ],
    check=_whole_identity,
)

FTPS: Final = Spec(
    "ftps",
    "A folder on an FTP server that speaks TLS (explicit, passive).",
    [
        Option("host", TEXT, "the server's name, which its certificate must be for", required=True),
        Option("port", PORT, "its port", default=21),
        Option("user", TEXT, "who we are there", required=True),
        Option("password", SECRET, "our password", required=True),
        Option("tls", TLS, "certificates", default={}),
        Option("folder", TEXT, "the folder there; relative to where the login leads", default="."),
        Option("connect_timeout", DURATION, "limit of connecting and of each step of logging in", default="30s"),
        Option("timeout", DURATION, "limit of the server's silence during a request", default="60s"),
    ],
)
