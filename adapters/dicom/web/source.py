"""The DICOMweb source: a server whose store requests become messages, and whose reads come from an archive.

An instance is answered for as stored only after the intake's commit.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from adapters.dicom.web.capabilities import capabilities
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import DICOM_FILE, DICOM_JSON, DICOM_XML, RELATED, acceptable, choose, parse_media_type
from adapters.dicom.web.outcomes import Outcome
from adapters.dicom.web.outcomes import answer as store_answer
from adapters.dicom.web.reading import Reads
from adapters.dicom.web.store import StoreRequest, Taking
from adapters.dicom.web.targets import Target, find_target
from engine.errors import FramingError
from engine.formats.multipart import MultipartFramer
from engine.http1 import content_length
from engine.http_answers import Answer, HttpRefusal, Sender, sentence
from engine.http_server import Limits
from engine.http_source import Reception

if TYPE_CHECKING:
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.options import Settings


class DicomwebSource:
    """engine.contracts.Source, engine.http_source.Desk"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        limits = Limits(options.receive_within, options.idle, options.connections)
        self._reception = Reception(self, options, context, limits, name="dicomweb", title="DICOMweb", threads=6)
        self._secret = secrets.token_bytes(16)  # an instance could be made to contain a boundary that can be guessed
        self._reads: Reads | None = None
        if options.archive is not None:
            self._reads = Reads(options.archive, context, self._reception.in_thread, self._boundary)
        self._taking: Taking | None = None

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return self._reception.port

    def _boundary(self) -> str:
        return hashlib.sha256(self._secret + self._context.new_id().encode()).hexdigest()[:40]

    # --- life ------------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        reception, options = self._reception, self._options
        self._taking = Taking(
            self._context, intake, reception.in_thread, lambda: reception.stopping, options.most_instance, options.most_request
        )
        return reception.start()

    def stop(self) -> Deferred[None]:
        return self._reception.stop().addCallback(self._stopped)

    def _stopped(self, _: Any) -> None:
        if self._reads is not None:
            self._reads.close()

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> StoreRequest | None:
        """engine.http_source.Desk: every POST is a store request. Raises WebRefusal before a byte of it is read."""
        if start[0] != "POST":
            return None
        target = find_target(start[0], start[1], self._reception.base)
        media = _answer_type(target, headers)
        framer = _body_framer(headers, self._options.most_parts)
        if content_length(headers.get("content-length", "0")) > self._options.most_request:
            raise WebRefusal(413, f"a request may have {self._options.most_request} bytes")
        base = self._reception.url(headers) if self._reads is not None else ""
        assert self._taking is not None

        def worded(outcomes: list[Outcome], cut: bool) -> Answer:
            return store_answer(outcomes, base, media, closes=cut)

        return StoreRequest(self._taking, target.study, framer, sender, worded)

    def answer(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        """engine.http_source.Desk"""
        method, address, _ = message.start
        target = find_target(method, address, self._reception.base)
        if method == "OPTIONS":
            return Answer(204, headers={"Allow": ", ".join(target.allowed)})
        url = self._reception.url(message.headers)
        if target.kind == "capabilities":
            return capabilities(url, message.headers, reads=self._reads is not None)
        if self._reads is None:
            raise WebRefusal(404, "nothing can be read from this server; it only takes instances")
        return self._reads.read(target, message.headers, sender, url)

    def worded(self, refused: HttpRefusal) -> Answer:
        """engine.http_source.Desk"""
        if refused.__cause__ is not None:
            self._reception.warn(f"{refused.text}: {type(refused.__cause__).__name__}")
        return sentence(refused.status, refused.text, refused.headers)


def _answer_type(target: Target, headers: Mapping[str, str]) -> str:
    """In what the store response is said. Raises WebRefusal 406."""
    return choose(acceptable(headers, target.parameter("accept")), {DICOM_JSON: "", "application/json": "", DICOM_XML: ""})


def _body_framer(headers: Mapping[str, str], most_parts: int) -> MultipartFramer | None:
    """What cuts the body, None where it is one instance. Raises WebRefusal 415, 400."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise WebRefusal(415, "the body must have no content coding")
    if not headers.get("content-type"):
        raise WebRefusal(415, f'the body must be {RELATED}; type="{DICOM_FILE}"')
    media = parse_media_type(headers["content-type"])
    if media.name == DICOM_FILE:
        return None
    if media.name != RELATED or media.inner not in (DICOM_FILE, "*/*"):
        raise WebRefusal(415, f'the body must be {RELATED}; type="{DICOM_FILE}": metadata and bulk data apart are not taken')
    try:
        return MultipartFramer(media.parameters.get("boundary", ""), most_parts=most_parts)
    except FramingError as error:
        raise WebRefusal(400, error.text) from None
