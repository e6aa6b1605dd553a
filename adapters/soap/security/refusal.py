"""Why an envelope is not believed. A stranger hears the standard's code and sentence (WSS 1.1 clause 12); the audit hears `why`."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from adapters.soap.security.names import WSSE, WSU
from engine.errors import SecurityError


class Code(StrEnum):
    """The fault codes of WSS 1.1 clause 12, with clause 10's wsu:MessageExpired."""

    UNSUPPORTED_TOKEN = "UnsupportedSecurityToken"  # noqa: S105 - a fault code
    UNSUPPORTED_ALGORITHM = "UnsupportedAlgorithm"
    INVALID_SECURITY = "InvalidSecurity"
    INVALID_TOKEN = "InvalidSecurityToken"  # noqa: S105 - a fault code
    FAILED_AUTHENTICATION = "FailedAuthentication"
    FAILED_CHECK = "FailedCheck"
    TOKEN_UNAVAILABLE = "SecurityTokenUnavailable"  # noqa: S105 - a fault code
    EXPIRED = "MessageExpired"

    @property
    def namespace(self) -> str:
        return WSU if self is Code.EXPIRED else WSSE

    @property
    def prefix(self) -> str:
        return "wsu" if self is Code.EXPIRED else "wsse"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Code.UNSUPPORTED_TOKEN: "An unsupported token was provided",
    Code.UNSUPPORTED_ALGORITHM: "An unsupported signature or encryption algorithm was used",
    Code.INVALID_SECURITY: "An error was discovered processing the <wsse:Security> header",
    Code.INVALID_TOKEN: "An invalid security token was provided",
    Code.FAILED_AUTHENTICATION: "The security token could not be authenticated or authorized",
    Code.FAILED_CHECK: "The signature or decryption was invalid",
    Code.TOKEN_UNAVAILABLE: "Referenced security token could not be retrieved",
    Code.EXPIRED: "The message has expired",
}


class Refusal(SecurityError):
    """`fault` is for the sender, `text` for the audit; `party` is who it would have been, where that is known."""

    code: ClassVar[str] = "security.wss"

    def __init__(self, fault: Code, why: str, *, party: str = "") -> None:
        super().__init__(why)
        self.fault, self.party = fault, party
