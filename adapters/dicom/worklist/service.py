"""The modality worklist as a service of an association: C-FIND (PS3.4 clause K.4.1).

The worklist is read off the reactor thread, and what is told is audited before.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks

from adapters.dicom.services import Provided
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered
from adapters.dicom.worklist import query
from adapters.dicom.worklist.book import Book
from engine.errors import ParseError, StoreError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from adapters.dicom.source import DicomSource
    from adapters.dicom.upper.exchange import Request, Sink
    from engine.options import Settings


_LONGEST: Final = 64 << 10
"""Bytes of an identifier; it is read on the reactor thread."""


def provide(options: Settings, source: DicomSource) -> Provided:
    """For adapters.dicom.services: option `worklist`."""
    return Provided({query.SOP_CLASS: WorklistService(options, source)})


class WorklistService:
    """adapters.dicom.upper.exchange.Service"""

    def __init__(self, options: Settings, source: DicomSource) -> None:
        self._options, self._context, self._run = options, source.context, source.run
        self._path = source.context.data / options.file

    def begin(self, request: Request) -> Sink | None:
        if request.command.field != Field.C_FIND:
            request.respond(Status.UNRECOGNIZED_OPERATION, "the modality worklist is asked by C-FIND")
            return None
        if not request.command.has_data:
            request.respond(Status.DATA_SET_MISMATCH, "a query without an identifier")
            return None
        return Gathered(request, lambda data: self._asked(request, data), _LONGEST)

    def _asked(self, request: Request, identifier: bytes) -> None:
        calling = request.parties.calling
        charset = (self._options.charsets or {}).get(calling) or self._options.charset or ()
        try:
            asked = query.read(identifier, request.context.transfer_syntax, calling, charset)
        except ParseError as error:
            request.respond(Status.CANNOT_UNDERSTAND, error.text)
        except ValidationError as error:
            request.respond(Status.DATA_SET_MISMATCH, error.text, OffendingElement=(int(error.location, 16),))
        else:
            self._answer(request, asked).addErrback(self._failed, request)

    @inlineCallbacks
    def _answer(self, request: Request, asked: query.Query) -> Generator[Deferred[Any], Any, None]:
        matches = yield self._run(self._search, asked, request)
        most = self._options.most
        self._disclose(request, min(len(matches), most))
        for one in matches[:most]:
            if request.cancelled:
                break
            request.respond(asked.status, data=one)
            yield request.writable()
        if request.cancelled:
            request.respond(Status.CANCEL)
        elif len(matches) > most:
            request.respond(Status.OUT_OF_RESOURCES, f"there are more than {most} matches; ask for less")
        else:
            request.respond(Status.SUCCESS)

    def _search(self, asked: query.Query, request: Request) -> list[bytes]:
        """In a thread: at most one match more than may be told. Where no order has come yet there is no worklist, and nothing to do."""
        found: list[bytes] = []
        if not self._path.exists():
            return found
        book = Book(self._path)
        book.open(to_read=True)
        with closing(book):
            steps = ((kept.step, kept.status) for kept in book.find(*asked.wanted))
            for one in asked.answers(steps):
                found.append(one)
                if len(found) > self._options.most or request.cancelled:
                    break
        return found

    def _disclose(self, request: Request, steps: int) -> None:
        parties = request.parties
        self._context.disclose(
            "worklist.queried",
            channel=self._context.name,
            ae_title=parties.calling,
            peer=parties.peer,
            remote=parties.remote,
            steps=steps,
        )

    def _failed(self, failure: Any, request: Request) -> None:
        failure.trap(sqlite3.Error, OSError, StoreError)
        self._context.log.error("the worklist cannot be read", extra={"channel": self._context.name, "reason": str(failure.value)})
        request.respond(Status.OUT_OF_RESOURCES, "the worklist cannot be read now")
