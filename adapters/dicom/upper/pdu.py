"""The PDUs that make and end an association, as bytes and back (PS3.8 clause 9.3, PS3.7 annex D.3.3). Pure.

Everything that a peer sends is checked here: lengths, counts, identifiers. What the standard reserves for later (unknown sub-items,
PS3.8 clause 9.3.1) is passed over. P-DATA-TF is in `framing`, since it is never held as a whole.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from engine.errors import FramingError, LocalProtocolError

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
MOST_ROLES: Final = 512
_HEADER: Final = struct.Struct(">BxL")
_ITEM: Final = struct.Struct(">BxH")
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


class Result:
    """Of a presentation context (table 9-18)."""

    ACCEPTANCE, USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX, TRANSFER_SYNTAXES = range(5)


class ProposedContext(NamedTuple):
    """Presentation context item of a request (clause 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class ContextResult(NamedTuple):
    """Presentation context item of an acceptance (clause 9.3.3.2); the transfer syntax means nothing unless it is accepted."""

    context_id: int
    result: int
    transfer_syntax: str


class Roles(NamedTuple):
    """SCP/SCU role selection (PS3.7 annex D.3.3.4), of the requestor: may it be SCU, may it be SCP."""

    scu: bool
    scp: bool


class UserIdentity(NamedTuple):
    """PS3.7 annex D.3.3.7.1. `kind` 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JWT."""

    kind: int
    wants_response: bool
    primary: bytes
    secondary: bytes = b""

    def __repr__(self) -> str:
        return f"UserIdentity(kind={self.kind}, ***)"


@dataclass(frozen=True)
class Associate:
    """What A-ASSOCIATE-RQ and -AC have in common. `max_length` 0: any; `window`: operations (invoked, performed), None: one."""

    called: str
    calling: str
    max_length: int = 16384
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    roles: Mapping[str, Roles] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    extended: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class AssociateRequest(Associate):
    """A-ASSOCIATE-RQ (clause 9.3.2)."""

    contexts: tuple[ProposedContext, ...] = ()
    identity: UserIdentity | None = None
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True)
class AssociateAccept(Associate):
    """A-ASSOCIATE-AC (clause 9.3.3)."""

    results: tuple[ContextResult, ...] = ()
    identity_response: bytes | None = None


class AssociateReject(NamedTuple):
    """A-ASSOCIATE-RJ (table 9-21): result 1 permanent, 2 transient; source 1 user, 2 provider (ACSE), 3 provider (presentation)."""

    result: int
    source: int
    reason: int

    def __str__(self) -> str:
        word = _REJECTIONS.get((self.source, self.reason), f"reason {self.reason}")
        return f"rejected {'for now' if self.result == 2 else 'permanently'}: {word}"


class Abort(NamedTuple):
    """A-ABORT (table 9-26): source 0 user, 2 provider; the reason means nothing unless the provider aborts."""

    source: int = 0
    reason: int = 0

    def __str__(self) -> str:
        if self.source != 2:
            return "aborted by the peer"
        return f"aborted by the peer's provider: {_ABORTS.get(self.reason, f'reason {self.reason}')}"


class ReleaseRequest(NamedTuple):
    """A-RELEASE-RQ (clause 9.3.6)."""


class ReleaseResponse(NamedTuple):
    """A-RELEASE-RP (clause 9.3.7)."""


Pdu = AssociateRequest | AssociateAccept | AssociateReject | Abort | ReleaseRequest | ReleaseResponse

NO_REASON: Final = AssociateReject(1, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = AssociateReject(1, 1, 2)
CALLING_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 3)
CALLED_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED: Final = AssociateReject(1, 2, 2)
TEMPORARY_CONGESTION: Final = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = AssociateReject(2, 3, 2)
_REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
UNRECOGNIZED_PDU, UNEXPECTED_PDU, _, UNRECOGNIZED_PARAMETER, UNEXPECTED_PARAMETER, INVALID_VALUE = range(1, 7)
_ABORTS: Final = {
    0: "reason not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


def broken(text: str, reason: int = INVALID_VALUE) -> FramingError:
    """The error of a PDU that cannot be taken; its hint is the reason of the A-ABORT."""
    return FramingError(text, reply_hint=str(reason))


# --- reading --------------------------------------------------------------------------------------


def decode(kind: int, content: bytes) -> Pdu:
    """The PDU of a kind (not P-DATA) with that content (what follows its length). Raises FramingError."""
    if kind == ASSOCIATE_RQ:
        return _request(content)
    if kind == ASSOCIATE_AC:
        return _accept(content)
    if kind in (RELEASE_RQ, RELEASE_RP, ASSOCIATE_RJ, ABORT):
        if len(content) != 4:
            raise broken(f"PDU of type {kind} with {len(content)} bytes")
        if kind == ASSOCIATE_RJ:
            return AssociateReject(*content[1:4])
        if kind == ABORT:
            return Abort(content[2], content[3])
        return ReleaseRequest() if kind == RELEASE_RQ else ReleaseResponse()
    raise broken(f"there is no PDU of type {kind}", UNRECOGNIZED_PDU)


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    at, end = 0, len(content)
    while at < end:
        if end - at < 4:
            raise broken("an item is cut off")
        kind, length = _ITEM.unpack_from(content, at)
        at += 4 + length
        if at > end:
            raise broken("an item is longer than its PDU")
        yield kind, content[at - length : at]


def _uid(raw: bytes) -> str:
    """Identifiers are padded by some (PS3.8 annex F says that they are not)."""
    text = raw.rstrip(b"\0 ").decode("ascii", "replace")
    if len(text) > 64 or not _UID.fullmatch(text):
        raise broken("an identifier that is none")
    return text


def _title(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")


def _fixed(content: bytes) -> tuple[int, str, str]:
    if len(content) < 68:
        raise broken("the PDU is too short")
    return int.from_bytes(content[:2], "big"), _title(content[4:20]), _title(content[20:36])


def _request(content: bytes) -> AssociateRequest:
    version, called, calling = _fixed(content)
    contexts: list[ProposedContext] = []
    application, user = "", _User()
    for kind, item in _items(content[68:]):
        if kind == 0x10:
            application = _uid(item)
        elif kind == 0x20:
            contexts.append(_proposed(item))
        elif kind == 0x50:
            user.read(item)
    ids = {context.context_id for context in contexts}
    if len(ids) != len(contexts) or not all(one % 2 for one in ids):
        raise broken("presentation context IDs must be odd, and each used once")
    if not contexts:
        raise broken("no presentation context is proposed")
    return AssociateRequest(
        called,
        calling,
        **user.common,
        contexts=tuple(contexts),
        identity=user.identity,
        application_context=application,
        protocol_version=version,
    )


def _proposed(item: bytes) -> ProposedContext:
    if len(item) < 4:
        raise broken("a presentation context is cut off")
    abstract, transfer = "", []
    for kind, sub in _items(item[4:]):
        if kind == 0x30:
            abstract = _uid(sub)
        elif kind == 0x40:
            transfer.append(_uid(sub))
    if not abstract or not transfer:
        raise broken("a presentation context without abstract or transfer syntax")
    return ProposedContext(item[0], abstract, tuple(transfer))


def _accept(content: bytes) -> AssociateAccept:
    _, called, calling = _fixed(content)
    results: list[ContextResult] = []
    user = _User()
    for kind, item in _items(content[68:]):
        if kind == 0x21:
            results.append(_result(item))
        elif kind == 0x50:
            user.read(item)
    return AssociateAccept(called, calling, **user.common, results=tuple(results), identity_response=user.response)


def _result(item: bytes) -> ContextResult:
    if len(item) < 4:
        raise broken("a presentation context is cut off")
    accepted = item[2] == Result.ACCEPTANCE
    syntaxes = [sub for kind, sub in _items(item[4:]) if kind == 0x40] if accepted else []
    if accepted and len(syntaxes) != 1:
        raise broken("an accepted presentation context has one transfer syntax")
    return ContextResult(item[0], item[2], _uid(syntaxes[0]) if accepted else "")


class _User:
    """The user information item (annex D.1, PS3.7 annex D.3.3)."""

    def __init__(self) -> None:
        self.common: dict[str, Any] = {"max_length": 0}
        self.roles: dict[str, Roles] = {}
        self.extended: dict[str, bytes] = {}
        self.identity: UserIdentity | None = None
        self.response: bytes | None = None

    def read(self, item: bytes) -> None:
        for kind, sub in _items(item):
            try:
                self._read(kind, sub)
            except struct.error:
                raise broken(f"sub-item {kind:02X}H is cut off") from None
        self.common.update(roles=self.roles, extended=self.extended)

    def _read(self, kind: int, sub: bytes) -> None:
        if kind == 0x51:
            self.common["max_length"] = struct.unpack(">L", sub)[0]
        elif kind == 0x52:
            self.common["implementation_class_uid"] = _uid(sub)
        elif kind == 0x53:
            self.common["window"] = struct.unpack(">HH", sub)
        elif kind == 0x55:
            self.common["implementation_version_name"] = _title(sub)
        elif kind in (0x54, 0x56):
            uid, rest = _counted(sub)
            if len(self.roles) + len(self.extended) >= MOST_ROLES:
                raise broken("too many sub-items")
            if kind == 0x56:
                self.extended[_uid(uid)] = rest
            else:
                scu, scp = struct.unpack(">??", rest)
                self.roles[_uid(uid)] = Roles(scu, scp)
        elif kind == 0x58:
            kind_of, wants = struct.unpack_from(">B?", sub)
            primary, rest = _counted(sub[2:])
            self.identity = UserIdentity(kind_of, wants, primary, _counted(rest)[0])
        elif kind == 0x59:
            self.response = _counted(sub)[0]


def _counted(sub: bytes) -> tuple[bytes, bytes]:
    """A field that begins with its length, and what follows it."""
    (length,) = struct.unpack_from(">H", sub)
    if 2 + length > len(sub):
        raise broken("a field is longer than its sub-item")
    return sub[2 : 2 + length], sub[2 + length :]


# --- writing --------------------------------------------------------------------------------------


def encode(pdu: Pdu) -> bytes:
    """Raises LocalProtocolError for what cannot be put so."""
    if isinstance(pdu, AssociateRequest):
        return _wrap(ASSOCIATE_RQ, _head(pdu, pdu.protocol_version) + _item(0x10, pdu.application_context.encode()) + _proposals(pdu))
    if isinstance(pdu, AssociateAccept):
        return _wrap(ASSOCIATE_AC, _head(pdu, 1) + _item(0x10, APPLICATION_CONTEXT.encode()) + _answers(pdu))
    if isinstance(pdu, AssociateReject):
        return _wrap(ASSOCIATE_RJ, bytes((0, *pdu)))
    if isinstance(pdu, Abort):
        return _wrap(ABORT, bytes((0, 0, *pdu)))
    return _wrap(RELEASE_RQ if isinstance(pdu, ReleaseRequest) else RELEASE_RP, bytes(4))


def _wrap(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(kind, len(content)) + content


def _item(kind: int, content: bytes) -> bytes:
    if len(content) > 0xFFFF:
        raise LocalProtocolError(f"item {kind:02X}H is longer than 65,535 bytes")
    return _ITEM.pack(kind, len(content)) + content


def title(text: str) -> bytes:
    """An AE title in its 16 bytes. Raises LocalProtocolError."""
    raw = text.strip().encode("ascii", "replace")
    if not 0 < len(raw) <= 16 or b"\\" in raw:
        raise LocalProtocolError("an AE title has 1 to 16 characters of ASCII, and no backslash")
    return raw.ljust(16)


def _head(pdu: Associate, version: int) -> bytes:
    return struct.pack(">HH", version, 0) + title(pdu.called) + title(pdu.calling) + bytes(32)


def _proposals(pdu: AssociateRequest) -> bytes:
    items = []
    for context in pdu.contexts:
        syntaxes = b"".join(_item(0x40, one.encode()) for one in context.transfer_syntaxes)
        items.append(_item(0x20, bytes((context.context_id, 0, 0, 0)) + _item(0x30, context.abstract_syntax.encode()) + syntaxes))
    identity = b""
    if pdu.identity is not None:
        kind, wants, primary, secondary = pdu.identity
        identity = _item(0x58, struct.pack(">B?", kind, wants) + _count(primary) + _count(secondary))
    return b"".join(items) + _item(0x50, _common(pdu) + identity)


def _answers(pdu: AssociateAccept) -> bytes:
    items = [
        _item(0x21, bytes((one.context_id, 0, one.result, 0)) + _item(0x40, (one.transfer_syntax or "1.2.840.10008.1.2").encode()))
        for one in pdu.results
    ]
    response = b"" if pdu.identity_response is None else _item(0x59, _count(pdu.identity_response))
    return b"".join(items) + _item(0x50, _common(pdu) + response)


def _common(pdu: Associate) -> bytes:
    """The sub-items in rising order, as annex D.3.3 asks."""
    parts = [_item(0x51, struct.pack(">L", pdu.max_length)), _item(0x52, pdu.implementation_class_uid.encode())]
    if pdu.window is not None:
        parts.append(_item(0x53, struct.pack(">HH", *pdu.window)))
    parts += [_item(0x54, _count(uid.encode()) + struct.pack(">??", *roles)) for uid, roles in pdu.roles.items()]
    if pdu.implementation_version_name:
        parts.append(_item(0x55, pdu.implementation_version_name.encode("ascii", "replace")[:16]))
    parts += [_item(0x56, _count(uid.encode()) + info) for uid, info in pdu.extended.items()]
    return b"".join(parts)


def _count(content: bytes) -> bytes:
    if len(content) > 0xFFFF:
        raise LocalProtocolError("a field is longer than 65,535 bytes")
    return struct.pack(">H", len(content)) + content
