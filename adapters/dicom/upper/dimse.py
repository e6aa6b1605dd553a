"""DIMSE command sets (PS3.7 clauses 6.3, 9.3, 10.3 and annex E). Pure.

A command set is group 0000 in Implicit VR Little Endian. `Command` holds its elements by keyword, so that what a peer put in beyond what a
service reads is kept. Numbers are int, identifiers and titles str, attribute lists tuples of int.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from engine.errors import FramingError, LocalProtocolError

MOST_COMMAND: Final = 64 << 10
"""Bytes of a command set; the longest field is an error comment of 64 characters."""
NO_DATA_SET: Final = 0x0101
DATA_SET: Final = 0x0001
_US, _UL, _UI, _AE, _LO, _AT = "US", "UL", "UI", "AE", "LO", "AT"
_ELEMENTS: Final = {
    0x0000: ("CommandGroupLength", _UL),
    0x0002: ("AffectedSOPClassUID", _UI),
    0x0003: ("RequestedSOPClassUID", _UI),
    0x0100: ("CommandField", _US),
    0x0110: ("MessageID", _US),
    0x0120: ("MessageIDBeingRespondedTo", _US),
    0x0600: ("MoveDestination", _AE),
    0x0700: ("Priority", _US),
    0x0800: ("CommandDataSetType", _US),
    0x0900: ("Status", _US),
    0x0901: ("OffendingElement", _AT),
    0x0902: ("ErrorComment", _LO),
    0x0903: ("ErrorID", _US),
    0x1000: ("AffectedSOPInstanceUID", _UI),
    0x1001: ("RequestedSOPInstanceUID", _UI),
    0x1002: ("EventTypeID", _US),
    0x1005: ("AttributeIdentifierList", _AT),
    0x1008: ("ActionTypeID", _US),
    0x1020: ("NumberOfRemainingSuboperations", _US),
    0x1021: ("NumberOfCompletedSuboperations", _US),
    0x1022: ("NumberOfFailedSuboperations", _US),
    0x1023: ("NumberOfWarningSuboperations", _US),
    0x1030: ("MoveOriginatorApplicationEntityTitle", _AE),
    0x1031: ("MoveOriginatorMessageID", _US),
}
"""PS3.7 table E.1-1."""
_TAGS: Final = {keyword: (element, vr) for element, (keyword, vr) in _ELEMENTS.items()}
_HEADER: Final = struct.Struct("<HHL")


class Field(IntEnum):
    """Command field (0000,0100); a response is its request with bit 15."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


RESPONSE: Final = 0x8000
_REQUESTS: Final = frozenset(Field)


class Status(IntEnum):
    """Statuses (PS3.7 annex C, PS3.4) that are used here."""

    SUCCESS = 0x0000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WITH_WARNING = 0xFF01
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT_VALUE = 0x0115
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORIZED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


PENDING: Final = frozenset((Status.PENDING, Status.PENDING_WITH_WARNING))


def is_pending(status: int) -> bool:
    """Whether more responses to the same request follow (PS3.7 annex C.1: pending)."""
    return status in PENDING


class Command(dict[str, Any]):
    """A command set: keyword -> value. Compared as the dict that it is."""

    @property
    def field(self) -> int:
        """Without the bit that marks a response."""
        return int(self.get("CommandField", 0)) & ~RESPONSE

    @property
    def is_response(self) -> bool:
        return bool(int(self.get("CommandField", 0)) & RESPONSE)

    @property
    def has_data(self) -> bool:
        return int(self.get("CommandDataSetType", NO_DATA_SET)) != NO_DATA_SET

    @property
    def message_id(self) -> int:
        """Of a request its own, of a response (and a cancel) that of the request."""
        own = not self.is_response and self.field != Field.C_CANCEL
        return int(self.get("MessageID" if own else "MessageIDBeingRespondedTo", 0))

    @property
    def status(self) -> int:
        return int(self.get("Status", 0))

    @property
    def sop_class(self) -> str:
        return str(self.get("AffectedSOPClassUID") or self.get("RequestedSOPClassUID") or "")

    @property
    def sop_instance(self) -> str:
        return str(self.get("AffectedSOPInstanceUID") or self.get("RequestedSOPInstanceUID") or "")


# --- reading --------------------------------------------------------------------------------------


def decode(content: bytes) -> Command:
    """A command set. Raises FramingError for one that cannot be read, or that is no command."""
    command, at, end = Command(), 0, len(content)
    try:
        while at < end:
            group, element, length = _HEADER.unpack_from(content, at)
            at += 8
            if group or at + length > end:
                raise FramingError("a command set that is no command set", reply_hint="6")
            keyword, vr = _ELEMENTS.get(element, ("", ""))
            if keyword and length:
                command[keyword] = _value(vr, content[at : at + length])
            at += length
    except struct.error:
        raise FramingError("a command set is cut off", reply_hint="6") from None
    if command.field not in _REQUESTS or "CommandDataSetType" not in command:
        raise FramingError("a command set without a command that there is", reply_hint="6")
    command.pop("CommandGroupLength", None)
    return command


def _value(vr: str, raw: bytes) -> Any:
    if vr == _US:
        return struct.unpack("<H", raw)[0]
    if vr == _UL:
        return struct.unpack("<L", raw)[0]
    if vr == _AT:
        numbers = struct.unpack(f"<{len(raw) // 2}H", raw)
        return tuple(group << 16 | element for group, element in zip(numbers[::2], numbers[1::2], strict=False))
    return raw.decode("latin-1").rstrip("\0").strip(" ")


# --- writing --------------------------------------------------------------------------------------


def encode(command: Mapping[str, Any]) -> bytes:
    """A command set with its group length; None is left out. Raises LocalProtocolError for what cannot be in one."""
    parts = []
    try:
        for element, (vr, value) in sorted(
            (_TAGS[keyword][0], (_TAGS[keyword][1], value)) for keyword, value in command.items() if value is not None
        ):
            raw = _raw(vr, value)
            parts.append(_HEADER.pack(0, element, len(raw)) + raw)
    except (KeyError, struct.error, TypeError) as error:
        raise LocalProtocolError(f"this cannot be in a command set: {error}") from None
    content = b"".join(parts)
    return _HEADER.pack(0, 0, 4) + struct.pack("<L", len(content)) + content


def _raw(vr: str, value: Any) -> bytes:
    if vr == _US:
        return struct.pack("<H", value)
    if vr == _UL:
        return struct.pack("<L", value)
    if vr == _AT:
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    raw = str(value).encode("latin-1", "replace")
    if vr == _LO:
        raw = raw[:64]
    return raw + (b"\0" if vr == _UI else b" ") * (len(raw) % 2)


# --- requests and responses -----------------------------------------------------------------------


def request(field: Field, sop_class: str, sop_instance: str = "", **more: Any) -> Command:
    """A request as PS3.7 clauses 9.3 and 10.3 have it; the message ID, and whether a data set follows, are said when it is sent.
    C-STORE and N-CREATE, N-EVENT-REPORT *affect*, the other N-services *request* an instance."""
    requested = field in (Field.N_GET, Field.N_SET, Field.N_ACTION, Field.N_DELETE)
    command = Command(CommandField=int(field))
    command["RequestedSOPClassUID" if requested else "AffectedSOPClassUID"] = sop_class
    if sop_instance:
        command["RequestedSOPInstanceUID" if requested else "AffectedSOPInstanceUID"] = sop_instance
    if field in (Field.C_STORE, Field.C_FIND, Field.C_MOVE, Field.C_GET):
        command["Priority"] = 0
    command.update(more)
    return command


def response(to: Command, status: int, comment: str = "", **more: Any) -> Command:
    """A response: in the N-services, too, its SOP class and instance are the *affected* ones (PS3.7 clause 10.3)."""
    command = Command(CommandField=to.field | RESPONSE, MessageIDBeingRespondedTo=to.message_id, Status=status)
    if to.sop_class:
        command["AffectedSOPClassUID"] = to.sop_class
    if to.sop_instance:
        command["AffectedSOPInstanceUID"] = to.sop_instance
    for keyword in ("EventTypeID", "ActionTypeID"):
        if keyword in to:
            command[keyword] = to[keyword]
    if comment:
        command["ErrorComment"] = comment
    command.update(more)
    return command


# --- answers as the store keeps them --------------------------------------------------------------


def answer(status: int, comment: str = "", data: bytes = b"", **more: Any) -> bytes:
    """What a response says, apart from what it repeats of its request: a command set with the status and so on, then the data set.
    This is `Ack.answer` and `Receipt.answer` in channels that receive DICOM."""
    return encode({"Status": int(status), "ErrorComment": comment or None, **more}) + data


def read_answer(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The elements and the data set of an `answer`. Raises LocalProtocolError for what is none."""
    if len(content) < 12 or content[:8] != _HEADER.pack(0, 0, 4):
        raise LocalProtocolError("this is no DIMSE answer")
    end = 12 + int(struct.unpack_from("<L", content, 8)[0])
    elements, at = {}, 12
    while at < end:
        _, element, length = _HEADER.unpack_from(content, at)
        keyword, vr = _ELEMENTS[element]
        elements[keyword] = _value(vr, content[at + 8 : at + 8 + length])
        at += 8 + length
    return elements, content[end:]
