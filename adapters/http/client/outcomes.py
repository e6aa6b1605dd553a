"""What an answer means for a delivery. Pure.

success_on (200-299)   a receipt, unless `accepted_when` finds that the body says otherwise
permanent_on           a dead letter
retry_on               tried again, after Retry-After where given
other statuses         as engine.http_client says; a redirect is never followed: who answers could send a message anywhere
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from engine import registry
from engine.errors import DeliveryError, FramingError, MessageError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.http_answers import kept_form
from engine.http_client import refusal_of, retry_after
from engine.http_coding import decoder
from engine.message import JSON, XML, Receipt

if TYPE_CHECKING:
    from engine.http1 import Message
    from engine.options import Settings

_KEPT: Final = ("content-type", "location", "etag", "last-modified", "retry-after")
_MOST_KEPT: Final = 256 << 10
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class Outcomes:
    """`options` are the destination's, `clock` in microseconds UTC."""

    def __init__(self, options: Settings, clock: Callable[[], int]) -> None:
        self._options, self._clock = options, clock

    def receipt(self, message: Message) -> Receipt:
        """Raises DeliveryError, whose text holds nothing of the answer but short codes."""
        status = int(message.start[1])
        body, kept = self._kept(message)
        if not _among(status, self._options.success_on):
            raise self._refusal(status, message, kept)
        self._check_accepted(status, message.headers, body, kept)
        return Receipt(message.headers.get("location", "") or str(status), kept)

    def _kept(self, message: Message) -> tuple[bytes, bytes]:
        """The body without its content coding, and what the store keeps."""
        body = message.body
        headers = {name: message.headers[name] for name in _KEPT if name in message.headers}
        if "content-encoding" in message.headers:
            try:
                undone = decoder({"content-encoding": message.headers["content-encoding"]}, self._options.most_answer)
                body = b"".join(undone.feed(body))
                undone.finish()
            except FramingError:
                headers["content-encoding"] = message.headers["content-encoding"]
                body = message.body
        return body, kept_form(int(message.start[1]), headers, body[:_MOST_KEPT])

    def _refusal(self, status: int, message: Message, kept: bytes) -> DeliveryError:
        text = f"the server answered {status}"
        after = retry_after(message.headers.get("retry-after", ""), self._clock)
        if _among(status, self._options.permanent_on):
            return PermanentDelivery(text, answer=kept)
        if _among(status, self._options.retry_on):
            return TransientDelivery(text, answer=kept, retry_after=after, whole_destination=status in (429, 503))
        if 300 <= status < 400:
            return PermanentDelivery(f"{text}: a redirect is not followed, the channel must name the new address", answer=kept)
        return refusal_of(message, kept, self._clock)

    def _check_accepted(self, status: int, headers: Mapping[str, str], body: bytes, kept: bytes) -> None:
        wanted = self._options.accepted_when
        if wanted is None:
            return
        said = self._said(wanted.path, headers, body)
        if said is None:
            text = f"the server answered {status}, and the answer does not say whether the message was accepted"
            raise UncertainDelivery(text, location=wanted.path, answer=kept)
        if said in wanted.accepted:
            return
        text = f"the server did not accept it: {wanted.path} is {said if _WORD.fullmatch(said) else 'another value'}"
        transient = said in wanted.transient or wanted.otherwise == "transient"
        raise (TransientDelivery if transient else PermanentDelivery)(text, location=wanted.path, answer=kept)

    @staticmethod
    def _said(path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """None where the answer is not to be read, or has no such place."""
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        xml = media_type.endswith("xml") or (not media_type.endswith("json") and body.lstrip().startswith(b"<"))
        codec: Any = registry.codec(XML if xml else JSON)
        try:
            found: str | None = codec.decode(body).get(path)
        except (MessageError, ValueError):
            return None
        return found


def _among(status: int, some: Any) -> bool:
    return any(status in one for one in some)
