"""The contracts between the engine and what plugs into it.

Who calls whom: the service builds sources and destinations through an `Adapter`; a source hands
envelopes to its `Intake`; the engine's delivery calls destinations. Each contract has one shared
test suite under tests/contracts that every implementation, and every fake, inherits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from engine.errors import StoreError
from engine.parties.snapshot import Snapshot

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from engine.message import Ack, BodyRef, Envelope, Judgement, Lineage, Parcel, Receipt, Rendition
    from engine.observe import Metrics
    from engine.options import Settings, Spec
    from engine.store.contract import Spool
    from engine.tls import TlsProvider

FrameT = TypeVar("FrameT")


class Framer(Protocol, Generic[FrameT]):
    """Cuts frames out of a byte stream; knows no socket. Any chunking of the same bytes gives the same frames."""

    def feed(self, data: bytes) -> list[FrameT]:
        """Take the next bytes, give the frames they complete. Raises FramingError; unusable afterwards."""

    def finish(self) -> None:
        """The stream has ended. Raises FramingError if that cuts a frame in two."""

    def wrap(self, payload: bytes) -> bytes:
        """`payload` as it goes onto the wire. Raises LocalProtocolError if it cannot be framed."""


Reply = Callable[["Judgement"], bytes]
"""Words a judgement in the source's protocol. Called once, before the commit, so that the answer is stored with the message."""


class Intake(Protocol):
    """What the engine gives a source. Fires after the commit, and only then may the sender hear a positive answer.

    The Deferred always fires with an Ack, never with a failure: where the store could not take the
    message the Ack's verdict is UNAVAILABLE and nothing was kept.
    `invalid` marks a message that the source could not read (no usable header): it is quarantined
    under that judgement, whatever the channel accepts.
    With a channel that answers with a destination's result the Deferred fires when that is there, with the
    receipt's answer in `Ack.answer`.
    """

    def __call__(self, envelope: Envelope, reply: Reply, invalid: Judgement | None = None) -> Deferred[Ack]: ...


@runtime_checkable
class Source(Protocol):
    """Where messages come in."""

    def start(self, intake: Intake) -> Deferred[None]:
        """Begin to listen or poll; fires when the first message could come. Fails with ConfigError (port taken …)."""

    def stop(self) -> Deferred[None]:
        """Stop accepting at once, answer what was handed to the intake, then close. No intake call after stop()."""


@runtime_checkable
class Destination(Protocol):
    """Where messages go."""

    max_in_flight: int
    """How many parcels the engine may have under way at once. The engine keeps order per key itself. A destination with a true
    attribute `reads_files` is given every body that is a file as BodyRef (`Context.body_file`); others only those over 16 MB.
    One with a method `wind_up` is told when no more parcels come and the rest is waited for: what may take long it fails then."""

    def open(self) -> Deferred[None]:
        """Prepare; need not connect. Called once."""

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        """Send one parcel. Fires with a Receipt once the peer took it; fails only with a DeliveryError:
        Transient (not taken), Uncertain (sent, no answer), Permanent (refused). The parcel may come again after any failure."""

    def close(self) -> Deferred[None]:
        """Finish what is under way, then close. No deliver after close()."""


def _no_store(*_: Any) -> Any:
    raise StoreError("there is no store here")


@dataclass(frozen=True)
class Context:
    """Everything ambient that an adapter may use; nothing else is global.

    `name` is ``channel`` for a source, ``channel/destination`` for a destination. `clock` gives
    wall-clock microseconds UTC. `new_id` gives a short unique id (control ids of answers).
    `audit` takes an event name and facts without patient data (security refusals go here). `unaudited` says why nothing may be taken or
    handed out just now: the site is strict, and the audit log cannot be written; "" otherwise. `spool`, `unspool` and `body_file` are
    the store's (engine.store.contract.Store), for bodies too big for memory: what was spooled goes to the intake, or is unspooled.
    `checkpoints` gives how far this channel's source had read with what is kept (Envelope.checkpoint): name -> value.
    `answered`: the channel answers its senders with a destination's result. `may_take`: whether the channel's `accept` could take a
    message with these header facts, for sources that say beforehand what they take. `disabled` tells of a party (URI) whether it, or one
    above it, is disabled in the registry of parties, for sources that keep connections open; any thread may ask. `parties` gives the
    registry as it is now, on the reactor thread.
    """

    name: str
    reactor: Any
    site: Path
    data: Path
    clock: Callable[[], int]
    new_id: Callable[[], str]
    log: logging.Logger
    metrics: Metrics
    tls: TlsProvider
    audit: Callable[..., None]
    node: str = "meridian"
    party: str = ""
    shared: dict[str, Any] = field(default_factory=dict)
    unaudited: Callable[[], str] = lambda: ""
    spool: Callable[[], Spool] = _no_store
    unspool: Callable[[BodyRef], None] = _no_store
    body_file: Callable[[BodyRef], Path] = _no_store
    checkpoints: Callable[[], Deferred[dict[str, str]]] = _no_store
    answered: bool = False
    may_take: Callable[[Envelope], bool] = lambda _: True
    disabled: Callable[[str], bool] = lambda _: False
    parties: Callable[[], Snapshot] = Snapshot

    def disclose(self, event: str, **facts: Any) -> None:
        """Audit that content is handed out, before it is. Raises StoreError where the site wants that on disk and it cannot be."""
        self.audit(event, **facts)
        if reason := self.unaudited():
            raise StoreError(f"reads are not answered while the audit log cannot be written: {reason}")


class Adapter(Protocol):
    """A protocol's plug. Found by name through engine.registry; `name` is the word used in channel files."""

    name: str
    content_types: Sequence[str]
    """What its source produces and its destination takes; empty = anything."""
    source_options: Spec | None
    destination_options: Spec | None

    def source(self, options: Settings, context: Context) -> Source: ...

    def destination(self, options: Settings, context: Context) -> Destination: ...


@runtime_checkable
class Rehearsing(Protocol):
    """An adapter whose source can be tried on bytes without a socket, so that channel tests see what a sender would."""

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """The envelope that the source would hand to its intake, and its own judgement where it finds the content at fault.
        `peer` is the party that the connection would have proven, "" for none. Pure; never raises."""


@runtime_checkable
class RehearsingFiles(Protocol):
    """As Rehearsing, where messages come in files: what a file is called may say something too."""

    def rehearse_file(self, options: Settings, name: str, body: bytes) -> tuple[Envelope, Judgement | None]: ...


@runtime_checkable
class GivingByOptions(Protocol):
    """An adapter whose source gives what its options say, so that a channel's paths and mapping are checked against that alone."""

    def gives(self, options: Settings) -> Sequence[str]:
        """Content types, the usual one first; empty = anything. Options that have faults may lack values. Never raises."""


@runtime_checkable
class LookingInto(Protocol):
    """An adapter whose destination looks into the content it is given, with paths of its format, so that `meridian check` can say which
    cannot be."""

    def content_paths(self, options: Settings) -> Iterable[tuple[int, str]]:
        """Each with its line in the channel's file (0 = unknown); one that ends in ``[*]`` is gone through, index by index."""


@runtime_checkable
class Wording(Protocol):
    """An adapter whose destination puts messages into words of its own, so that channel tests see what the receiver would."""

    def word(self, options: Settings, parcel: Parcel) -> str:
        """The request for it, without what no two attempts have in common (signatures). Pure. Raises DeliveryError where none can be
        made."""


class Document(Protocol):
    """A decoded message, as far as filters, routes and search need it."""

    def get(self, path: str) -> str | None:
        """The text at `path` (``PID-3[1].4`` in HL7 v2, ``subject.reference`` in FHIR), None where there is none.
        Raises ValueError when the path cannot be one of this format."""


@runtime_checkable
class Repeating(Protocol):
    """A Document of which parts can be counted; its Codec has `check_repeating(path)`, which raises ValueError like check_path."""

    def indexes(self, path: str) -> range:
        """The indexes that ``path[index]`` can have here. Raises ValueError."""


class Codec(Protocol):
    """Pure bytes <-> document for one content type; found through engine.registry.

    One with a true attribute `headers` can do with the first WHOLE bytes of a body, as an Excerpt; so can a Mapper with it.
    """

    content_type: str

    def decode(self, body: bytes) -> Document:
        """Raises ParseError."""

    def check_path(self, path: str) -> None:
        """Raises ValueError if `path` can never be one of this format (so that `meridian check` can say so)."""


class Mapper(Protocol):
    """A mapping compiled for one site. Pure and picklable-by-name: it runs in worker processes."""

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """Deterministic: the same bytes give the same rendition. `charset` is what the source found to be the right character set
        where it is not the declared one. Raises MessageError."""

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same rendition, with where each element came from."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Files that belong together, as one body of a mapping's content type. `name` can be a file's, `source` says where it came from."""

    name: str
    source: str
    read: Callable[[], bytes]
    """Raises MessageError; ConfigError where a file cannot be read."""


@runtime_checkable
class Gathering(Protocol):
    """A mapper that makes one result of several files; `meridian convert` gives it those of a folder."""

    def gather(self, files: Iterable[Path]) -> Iterator[Gathered]: ...


class MappingRules(Protocol):
    """A shipped or third-party mapping, before it is compiled."""

    name: str
    content_types: Sequence[str]
    """What it takes."""

    def compile(self, site_mappings: Path | None) -> Mapper:
        """Compile with the site's rows laid over the shipped ones. Raises ConfigError with file:line of each fault."""
