"""WS-Security (OASIS WSS 1.1.1): who has sent an envelope, and which of its elements that was proven for.

`verify` judges what came, `incoming` does so for an endpoint and its memory of replays; `outgoing` secures what goes. Pure, but for
the small file of `replays` and the reading of certificates. ADR 021 says why it is written here on lxml and cryptography.
"""

from __future__ import annotations

from adapters.soap.security.files import outgoing
from adapters.soap.security.incoming import NotProven, Proven, Verifier, verifier
from adapters.soap.security.options import CLIENT_SECURITY, SECURITY
from adapters.soap.security.outgoing import Outgoing

__all__ = ["CLIENT_SECURITY", "SECURITY", "NotProven", "Outgoing", "Proven", "Verifier", "outgoing", "verifier"]
