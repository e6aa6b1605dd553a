"""The operation ``$upload`` of the source: POST takes lines, GET says where to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from adapters.fhir.offline import asked
from adapters.fhir.offline.book import Book
from adapters.fhir.offline.journals import Journals
from adapters.fhir.offline.outcomes import Result, standing_parameters
from adapters.fhir.offline.report import Report
from adapters.fhir.offline.upload import LineUpload
from adapters.fhir.outcome import Answer
from engine.http_coding import decoder

if TYPE_CHECKING:
    from adapters.fhir.permission import Permission
    from adapters.fhir.requests import Route
    from engine.contracts import Context, Intake
    from engine.http_answers import Sender
    from engine.http_source import Reception
    from engine.options import Settings

FOLDER = "uploads"


class Service:
    """The uploads of one channel."""

    def __init__(self, options: Settings, context: Context, reception: Reception, may: Permission | None) -> None:
        self.context, self._reception, self.may = context, reception, may
        self._folder = context.data / FOLDER / context.name
        self.journals = Journals(Book(self._folder / "book.db", options.remember), context, options.lines_at_once, reception.in_thread)
        self.most_line: int = options.most_body
        self.most_upload: int = options.most_upload
        self.validate: str = options.validate
        self.intake: Intake
        self._reports = 0
        self._counters: dict[Result, Any] = {}

    def start(self, intake: Intake) -> Deferred[None]:
        """Before the source listens."""
        self.intake = intake
        for left in self._folder.glob("report-*"):
            left.unlink(missing_ok=True)
        return self.journals.start()

    def close(self) -> None:
        self.journals.close()

    @property
    def stopping(self) -> bool:
        return self._reception.stopping

    @property
    def in_thread(self) -> Callable[..., Deferred[Any]]:
        return self._reception.in_thread

    def begin(self, found: Route, target: str, headers: Mapping[str, str], sender: Sender) -> LineUpload:
        """Raises FhirRefusal 400, 415; FramingError 413, 415."""
        wanted = asked.read(found, headers, sender)
        self._reports += 1
        report = Report(self._folder / f"report-{self._reports}.ndjson")
        return LineUpload(self, wanted, sender, target, decoder(headers, self.most_upload), report)

    def standing(self, found: Route, sender: Sender) -> Deferred[Answer]:
        """Raises FhirRefusal 400; fails with StoreError."""
        journal = asked.journal_of(found, sender)
        return self.journals.standing(journal).addCallback(lambda standing: Answer(200, standing_parameters(journal, standing)))

    def count(self, result: Result) -> None:
        """One more line."""
        if result not in self._counters:
            name, words = "meridian_fhir_upload_lines_total", "lines of uploads, by what became of them"
            self._counters[result] = self.context.metrics.counter(name, words, channel=self.context.name, result=str(result))
        self._counters[result].inc()
