"""Which SOP classes the `dicom` source serves, and what answers them.

`Table` is looked up by abstract syntax. Verification and Storage are here; the other rooms of this package add theirs in `EXTENSIONS`: a
channel option that switches them on, and a function ``provide(value, source) -> Provided`` that gives their services, where `value` is the
option's and `source` has `options`, `context`, `intake` (None before the start) and `run` (calls in a thread).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed

from adapters.dicom.recorded import MPPS, MPPS_MESSAGES, Recorded
from adapters.dicom.storage import Storage
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.negotiation import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Taken

if TYPE_CHECKING:
    from adapters.dicom.source import DicomSource
    from adapters.dicom.upper.exchange import Request, Service

VERIFICATION: Final = "1.2.840.10008.1.1"
UNCOMPRESSED: Final = (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE)
_STORAGE_ARC: Final = "1.2.840.10008.5.1.4.1.1."
_PLAIN: Final = Taken(UNCOMPRESSED)
EXTENSIONS: Final[Mapping[str, str]] = {
    "archive": "adapters.dicom.archive.services:provide",
    "commitment": "adapters.dicom.forward.commitment_service:provide",
}
"""Option of options.SOURCE -> dotted string of the function that provides its services."""


@dataclass(frozen=True)
class Provided:
    """Services by abstract syntax; how each is taken in negotiation where that is not in the uncompressed transfer syntaxes; what is
    answered to SOP class extended negotiation (PS3.7 annex D.3.3.5). `start` is called before the source listens,
    `stop` when it stops: what takes long ends soon."""

    services: Mapping[str, Service]
    taken: Mapping[str, Taken] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    start: Callable[[], Deferred[Any]] = lambda: succeed(None)
    stop: Callable[[], Any] = lambda: None


class Verification:
    """adapters.dicom.upper.exchange.Service: C-ECHO (PS3.4 annex A)."""

    def begin(self, request: Request) -> None:
        request.respond(Status.SUCCESS if request.command.field == Field.C_ECHO else Status.UNRECOGNIZED_OPERATION)


@cache
def storage_classes() -> frozenset[str]:
    """Every storage SOP class known here, retired ones and those for non-patient objects too: what is sent is kept."""
    from pydicom._uid_dict import UID_dictionary

    not_instances = "1.2.840.10008.1.20.", "1.2.840.10008.1.3.10"  # storage commitment, media storage directory
    return frozenset(
        uid
        for uid, entry in UID_dictionary.items()
        if entry[1] == "SOP Class" and "Storage" in entry[0] and not uid.startswith(not_instances)
    )


def is_storage(uid: str) -> bool:
    """Those known here, and what DICOM has added since to the arc of its storage SOP classes."""
    return uid in storage_classes() or (uid.startswith(_STORAGE_ARC) and not _is_known(uid))


class Table(Mapping[str, "Service"]):
    """adapters.dicom.upper.exchange.Services, and what the negotiation asks."""

    def __init__(self, source: DicomSource) -> None:
        options = source.options
        self._storage = Storage(source)
        self._stored = Taken(tuple(options.transfer_syntaxes))
        self._any = options.unknown_sop_classes == "accept"
        self._services: dict[str, Service] = {VERIFICATION: Verification()}
        self._taken: dict[str, Taken] = {}
        self.extended: dict[str, bytes] = {}
        self._provided: list[Provided] = []
        if options.procedure_steps:
            self._services[MPPS] = Recorded(source, MPPS_MESSAGES)
        for option, dotted in EXTENSIONS.items():
            if options.get(option) not in (None, False):
                self._add(_function(dotted)(options[option], source))

    def _add(self, provided: Provided) -> None:
        self._services.update(provided.services)
        self._taken.update(provided.taken)
        self.extended.update(provided.extended)
        self._provided.append(provided)

    def start(self) -> Deferred[Any]:
        """The source is about to listen."""
        return gatherResults([provided.start() for provided in self._provided], consumeErrors=True)

    def stop(self) -> Deferred[Any]:
        """The source stops; fires when all of them have."""
        return DeferredList([maybeDeferred(provided.stop) for provided in self._provided], consumeErrors=True)

    def taken(self, abstract_syntax: str) -> Taken | None:
        """For the negotiation: how it is taken, None where it is not."""
        if abstract_syntax in self._services or abstract_syntax in self._taken:
            return self._taken.get(abstract_syntax, _PLAIN)
        return self._stored if abstract_syntax in self else None

    def __getitem__(self, abstract_syntax: str) -> Service:
        if (found := self._services.get(abstract_syntax)) is not None:
            return found
        if is_storage(abstract_syntax) or (self._any and not _is_known(abstract_syntax)):
            return self._storage
        raise KeyError(abstract_syntax)

    def __iter__(self) -> Iterator[str]:
        return iter({*self._services, *storage_classes()})

    def __len__(self) -> int:
        return len({*self._services, *storage_classes()})


def _is_known(uid: str) -> bool:
    """Whether DICOM itself has given it a meaning, which is not storage."""
    from pydicom._uid_dict import UID_dictionary

    return uid in UID_dictionary


def _function(dotted: str) -> Any:
    module, _, name = dotted.partition(":")
    return getattr(import_module(module), name)
