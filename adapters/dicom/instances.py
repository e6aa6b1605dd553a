"""A SOP instance as a message: its file (PS3.10 clause 7), the facts in the first bytes of its data set, its envelope. Pure.

The data set's bytes go into the file as they were received, in the transfer syntax they came in; only the file meta information is ours.
What cannot be read cheaply is left out, never guessed.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from adapters.dicom.upper.negotiation import DEFLATED_LE, EXPLICIT_BE, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, IMPLICIT_LE
from engine.message import DICOM, BodyRef, Envelope

HEAD: Final = 64 << 10
"""Bytes from a data set's beginning that are enough for its facts."""
PREAMBLE: Final = bytes(128) + b"DICM"
UNDEFINED: Final = 0xFFFFFFFF
_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST: Final = 32
_WANTED: Final = {
    0x00080005: "charset",
    0x00080016: "sop_class",
    0x00080018: "sop_instance",
    0x00080050: "accession_number",
    0x00080060: "modality",
    0x00100020: "patient_id",
    0x00100021: "issuer",
    0x0020000D: "study_uid",
    0x0020000E: "series_uid",
}
_LAST: Final = max(_WANTED)
_LONGEST: Final = 1024
_META: Final = {0x00020002: "sop_class", 0x00020003: "sop_instance", 0x00020010: "transfer_syntax", 0x00020016: "source"}


@dataclass(frozen=True)
class Facts:
    """What the header says, decoded; "" where it does not (or not in the bytes at hand). `issuer` is that of the patient ID, `source` the
    AE title of the file meta information; `readable`: at least one element could be read."""

    sop_class: str = ""
    sop_instance: str = ""
    transfer_syntax: str = ""
    modality: str = ""
    study_uid: str = ""
    series_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""
    issuer: str = ""
    charset: str = ""
    source: str = ""
    readable: bool = True
    meta_length: int = field(default=0, compare=False)


# --- writing a file -------------------------------------------------------------------------------


def file_head(sop_class: str, sop_instance: str, transfer_syntax: str, calling: str = "") -> bytes:
    """Preamble and file meta information (PS3.10 table 7.1-1); the data set's bytes follow. `calling` is the AE title that sent them
    (0002,0016)."""
    elements = (
        _short(0x0002, b"UI", _uid(sop_class)) + _short(0x0003, b"UI", _uid(sop_instance)) + _short(0x0010, b"UI", _uid(transfer_syntax))
    )
    elements += _short(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)) + _short(0x0013, b"SH", _even(IMPLEMENTATION_VERSION_NAME))
    if calling:
        elements += _short(0x0016, b"AE", _even(calling))
    version = struct.pack("<HH2sxxL", 2, 1, b"OB", 2) + b"\0\1"
    length = _short(0x0000, b"UL", struct.pack("<L", len(version) + len(elements)))
    return PREAMBLE + length + version + elements


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _uid(text: str) -> bytes:
    raw = text.encode("ascii", "replace")
    return raw + b"\0" * (len(raw) % 2)


def _even(text: str) -> bytes:
    raw = text.encode("ascii", "replace")
    return raw + b" " * (len(raw) % 2)


# --- reading --------------------------------------------------------------------------------------


class _Exhausted(Exception):
    """The bytes at hand end here, or make no sense from here on."""


class _Elements:
    """Walks over the elements of an encoded data set."""

    def __init__(self, data: bytes, *, explicit: bool, big: bool) -> None:
        self._data, self._explicit, self._order = data, explicit, ">" if big else "<"
        self._at = 0

    def read(self, wanted: dict[int, str], last: int) -> dict[str, bytes]:
        """The values of the wanted elements, as far as the bytes go."""
        found: dict[str, bytes] = {}
        self.seen = 0
        try:
            while True:
                tag, _, length = self._header()
                if tag > last:
                    self.seen += 1
                    break
                start = self._at
                self._skip(tag, length, 0)
                self.seen += 1
                if tag in wanted and length <= _LONGEST:
                    found[wanted[tag]] = self._data[start : self._at]
        except _Exhausted:
            pass
        return found

    def _unpack(self, format_: str) -> tuple[int, ...]:
        format_ = self._order + format_
        size = struct.calcsize(format_)
        if self._at + size > len(self._data):
            raise _Exhausted
        values = struct.unpack_from(format_, self._data, self._at)
        self._at += size
        return values

    def _header(self, *, explicit: bool | None = None) -> tuple[int, bytes, int]:
        group, element = self._unpack("HH")
        tag = group << 16 | element
        if group == 0xFFFE or not (self._explicit if explicit is None else explicit):
            return tag, b"", self._unpack("L")[0]
        vr = self._data[self._at : self._at + 2]
        self._at += 2
        if not (vr.isalpha() and vr.isupper()):
            raise _Exhausted
        if vr in _LONG:
            self._at += 2
            return tag, vr, self._unpack("L")[0]
        return tag, vr, self._unpack("H")[0]

    def _skip(self, tag: int, length: int, depth: int) -> None:
        if length != UNDEFINED:
            if self._at + length > len(self._data):
                raise _Exhausted
            self._at += length
            return
        if depth >= _DEEPEST:
            raise _Exhausted
        while True:  # the items of a sequence
            tag, _, length = self._header()
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise _Exhausted
            if length != UNDEFINED:
                self._skip(tag, length, depth)
                continue
            while True:  # the elements of an item
                tag, _, length = self._header()
                if tag == _ITEM_END:
                    break
                self._skip(tag, length, depth + 1)


def read_facts(head: bytes, transfer_syntax: str) -> Facts:
    """The facts in the first bytes (`HEAD` of them are enough) of a data set in that transfer syntax. Never raises."""
    if transfer_syntax == DEFLATED_LE:
        try:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD)
        except zlib.error:
            return Facts(transfer_syntax=transfer_syntax, readable=False)
    elements = _Elements(head, explicit=transfer_syntax != IMPLICIT_LE, big=transfer_syntax == EXPLICIT_BE)
    raw = elements.read(_WANTED, _LAST)
    charset = raw.pop("charset", b"").decode("ascii", "replace").strip(" \0")
    texts: dict[str, Any] = {name: _text(value, charset) for name, value in raw.items()}
    return Facts(**texts, charset=charset, transfer_syntax=transfer_syntax, readable=elements.seen > 0)


def read_file_facts(head: bytes) -> Facts:
    """The same from the first bytes of a PS3.10 file; where the data set says nothing, the file meta information does.
    `meta_length` is where the data set begins, 0 where these are not the first bytes of such a file."""
    if head[128:132] != b"DICM" or head[132:136] != b"\2\0\0\0" or len(head) < 144:
        return Facts(readable=False)
    begins = 144 + int(struct.unpack_from("<L", head, 140)[0])
    meta = _Elements(head[132:begins], explicit=True, big=False).read(_META, 0x0002FFFF)
    texts = {name: _text(value, "") for name, value in meta.items()}
    facts = read_facts(head[begins:], texts.get("transfer_syntax", ""))
    missing = {name: text for name, text in texts.items() if not getattr(facts, name)}
    return replace(facts, **missing, meta_length=begins)  # type: ignore[arg-type]


def _text(raw: bytes, charset: str) -> str:
    raw = raw.rstrip(b" \0")
    return raw.decode("ascii").strip() if raw.isascii() and b"\x1b" not in raw else _decoded(raw, charset).strip()


def _decoded(raw: bytes, charset: str) -> str:
    """By Specific Character Set (0008,0005), code extensions included (PS3.5 clause 6.1.2.5)."""
    from pydicom.charset import convert_encodings, decode_bytes
    from pydicom.valuerep import TEXT_VR_DELIMS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(decode_bytes(raw, convert_encodings(charset.split("\\") if charset else ""), TEXT_VR_DELIMS))
        except (LookupError, UnicodeError, ValueError):
            return raw.decode("ascii", "replace")


# --- the envelope ---------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def keyword(uid: str) -> str:
    """The SOP class's keyword (PS3.6 annex A), the UID itself where it has none."""
    from pydicom.uid import UID

    return UID(uid).keyword or uid


def envelope(
    body: bytes | BodyRef,
    facts: Facts,
    *,
    received_at: int,
    content_digest: bytes,
    calling: str = "",
    called: str = "",
    peer: str = "",
    remote: str = "",
) -> Envelope:
    """An instance's envelope. `content_digest` is the SHA-256 of the data set alone: the file meta information differs between senders.
    The same instance is the same, whoever sends it."""
    told = {
        "ae_title": calling,
        "called_ae": called,
        "sop_class": facts.sop_class,
        "transfer_syntax": facts.transfer_syntax,
        "modality": facts.modality,
        "study_uid": facts.study_uid,
        "series_uid": facts.series_uid,
        "accession_number": facts.accession_number,
    }
    return Envelope(
        body,
        DICOM,
        keyword(facts.sop_class),
        facts.sop_instance,
        calling,
        peer,
        remote,
        received_at,
        (facts.patient_id,) if facts.patient_id else (),
        facts.sop_instance,
        content_digest,
        {name: text for name, text in told.items() if text},
    )
