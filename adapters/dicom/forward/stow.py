"""The destination `dicomweb`: stores instances by STOW-RS (PS3.18 clause 10.5), several in a request where they are small.

An instance is settled when the response names it in its Referenced SOP Sequence, and by nothing less; its Retrieve URL is the
receipt's reference. One that is in the Failed SOP Sequence fails by its Failure Reason (`outcomes`), each for itself.

200, 202, 409, with a body  each instance by what is said of it; one that is not named is uncertain
4xx for several together    each is sent again alone, at once, since one of them may be at fault
other answers, and none     as engine.http_client says; what is uncertain is repeated, which stores nothing twice (same SOP Instance UID)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure

from adapters.dicom.forward.instance import Instance, instance_of
from adapters.dicom.forward.outcomes import failure as failure_of
from adapters.dicom.forward.outcomes import in_words
from adapters.dicom.forward.retrieve import Retrieval
from adapters.dicom.forward.stow_answer import Said, read_answer
from engine.errors import DeliveryError, ParseError, PermanentDelivery, UncertainDelivery
from engine.http_client import HttpClient, refusal_of
from engine.message import Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.message import Parcel
    from engine.options import Settings

_MOST_KEPT = 64 << 10
_WITH_SEQUENCES = frozenset({"200", "202", "409"})


class _Waiting(NamedTuple):
    instance: Instance
    done: Deferred[Receipt]
    alone: bool = False


class StowDestination:
    """engine.contracts.Destination"""

    reads_files = True

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.max_in_flight: int = options.connections * options.together
        self._client = HttpClient(options, context)
        self._waiting: deque[_Waiting] = deque()
        self._requests = 0
        self._gathering = False
        self._verifying = 0
        self._retrieval = Retrieval(self._client, context) if options.verify == "retrieve" else None
        self._idle: Deferred[None] | None = None

    # --- life ------------------------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        return maybeDeferred(self._client.open)

    def close(self) -> Deferred[None]:
        idle = self._idle = Deferred()
        idle.addCallback(lambda _: self._client.close())
        self._look_idle()
        return idle

    def _look_idle(self) -> None:
        if self._idle is not None and not (self._requests or self._waiting or self._verifying):
            idle, self._idle = self._idle, None
            idle.callback(None)

    # --- delivery --------------------------------------------------------------------------------

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        try:
            waiting = _Waiting(instance_of(parcel, self._context.body_file), Deferred())
        except DeliveryError as error:
            return fail(error)
        self._waiting.append(waiting)
        if not self._gathering:  # what is delivered in the same turn goes together
            self._gathering = True
            self._context.reactor.callLater(0, self._gathered)
        return waiting.done

    def _gathered(self) -> None:
        self._gathering = False
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._requests < self._options.connections:
            self._post(self._next_group())
        self._look_idle()

    def _next_group(self) -> list[_Waiting]:
        """What goes in one request: up to so many, so big together; each SOP Instance UID once, since answers go by it."""
        first = self._waiting.popleft()
        group, size, uids = [first], first.instance.size, {first.instance.meta.sop_instance}
        while self._waiting and len(group) < self._options.together and not first.alone:
            one = self._waiting[0]
            size += one.instance.size
            if one.alone or size > self._options.together_size or one.instance.meta.sop_instance in uids:
                break
            uids.add(one.instance.meta.sop_instance)
            group.append(self._waiting.popleft())
        return group

    def _post(self, group: list[_Waiting]) -> None:
        self._requests += 1
        boundary = token_hex(16)  # not to be guessed by who makes an image that would contain it
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
            "Content-Length": str(_length([one.instance for one in group], boundary)),
        }
        sent = self._client.request("POST", f"{self._client.path}/studies", headers, _body([one.instance for one in group], boundary))
        sent.addBoth(self._answered, group)

    def _answered(self, result: Message | Failure, group: list[_Waiting]) -> None:
        self._requests -= 1
        self._settle(result, group)
        self._go_on()

    def _settle(self, result: Message | Failure, group: list[_Waiting]) -> None:
        outcomes = self._outcomes(result, [one.instance for one in group])
        if len(group) > 1 and all(isinstance(outcome, PermanentDelivery) and not outcome.location for outcome in outcomes):
            self._waiting.extendleft(one._replace(alone=True) for one in reversed(group))
            return
        for one, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                one.done.errback(outcome)
            elif self._retrieval is None:
                one.done.callback(outcome)
            else:
                self._verify(self._retrieval, one, outcome)

    def _verify(self, retrieval: Retrieval, one: _Waiting, receipt: Receipt) -> None:
        self._verifying += 1
        checked = retrieval.compare(one.instance, receipt.reference.partition(" ")[0])

        def ended(result: Any) -> None:
            self._verifying -= 1
            one.done.callback(result if isinstance(result, Failure) else Receipt(f"{receipt.reference} (read back)"))
            self._look_idle()

        checked.addBoth(ended)

    # --- what an answer means --------------------------------------------------------------------

    def _outcomes(self, result: Message | Failure, instances: Sequence[Instance]) -> Sequence[Receipt | DeliveryError]:
        """One for each. A PermanentDelivery without a location is about the request, and not about the instance."""
        if isinstance(result, Failure):
            if not isinstance(result.value, DeliveryError):
                result.raiseException()
            return [_of_group(result.value, len(instances))] * len(instances)
        kept = result.body[:_MOST_KEPT]
        if result.start[1] not in _WITH_SEQUENCES or (result.start[1] == "409" and not result.body):
            error = refusal_of(result, kept, self._context.clock) if result.start[1][0] != "2" else _unclear(kept)
            return [error] * len(instances)
        try:
            said = read_answer(result.body, result.headers.get("content-type", ""))
        except ParseError as error:
            unread = PermanentDelivery("the server answered 409", answer=kept) if result.start[1] == "409" else _unclear(kept, error.text)
            return [unread] * len(instances)
        return [_outcome(said.get(instance.meta.sop_instance), kept) for instance in instances]


def _of_group(error: DeliveryError, count: int) -> DeliveryError:
    """A body that turned out to be damaged is one instance's fault: the others of the request must not suffer for it."""
    return PermanentDelivery(error.text, answer=error.answer) if isinstance(error, PermanentDelivery) and count > 1 else error


def _unclear(kept: bytes, text: str = "the answer does not name the instance") -> UncertainDelivery:
    return UncertainDelivery(text, answer=kept)


def _outcome(said: Said | None, kept: bytes) -> Receipt | DeliveryError:
    if said is None:
        return _unclear(kept)
    if said.failure:
        error = failure_of(said.failure, "the server", kept)
        error.location = "(0008,1198)"
        return error
    warning = f" with warning {in_words(said.warning)}" if said.warning else ""
    return Receipt(f"{said.retrieve_url or 'stored'}{warning}")


# --- the request's body --------------------------------------------------------------------------------


def _part_head(boundary: str) -> bytes:
    return f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _end(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def _length(instances: Sequence[Instance], boundary: str) -> int:
    return sum(len(_part_head(boundary)) + instance.size for instance in instances) + len(_end(boundary))


def _body(instances: Sequence[Instance], boundary: str) -> Iterator[bytes]:
    for instance in instances:
        yield _part_head(boundary)
        yield from instance.pieces()
    yield _end(boundary)
