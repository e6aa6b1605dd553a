"""One write request on its way to becoming an envelope. Pure.

A request in XML is committed as the JSON that it says (engine.formats.fhir_r4.xml, which loses nothing that FHIR gives a meaning), so
that filters, mappings and destinations have one form to know. Its own bytes stay with the message (engine.message.ORIGINAL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from adapters.fhir import exact
from adapters.fhir.entries import Request, body_of, check_entry, read_entry, version_of
from adapters.fhir.envelopes import envelope, interaction, single_entry
from adapters.fhir.messages import Header, contents, digest, read_header
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.parts import bundled
from adapters.fhir.search import parse_query
from engine.message import FHIR_JSON, FHIR_XML, ORIGINAL, PARTS, packed

if TYPE_CHECKING:
    from adapters.fhir.requests import Route
    from engine.http1 import Message
    from engine.http_answers import Sender

_FACT_HEADERS: Final = {
    "if-match": "request.if_match",
    "if-none-exist": "request.if_none_exist",
    "x-request-id": "request.id",
    "prefer": "request.prefer",
}


class Write:
    """`body` is JSON, and `original` what it was made of; or, with another `content_type`, what could not be read. `header` is that of a
    message."""

    def __init__(
        self, found: Route, message: Message, sender: Sender, body: bytes, *, original: bytes = b"", content_type: str = FHIR_JSON
    ) -> None:
        self.found, self.message, self.sender, self.body = found, message, sender, body
        self._original, self._content_type = original, content_type
        self.method = message.start[0]
        self.is_single = found.kind not in ("system", "message")
        self.content: Any = None
        self.header: Header | None = None
        asked = "&".join(part for part in found.query.split("&") if part and not part.startswith(("_format=", "_pretty=")))
        self.condition = asked if found.kind == "type" and self.method != "POST" else None
        # a condition in the url of a create is no standard, but some clients (fhirpy) know no other; ignored it would create twice
        self.if_none_exist = self._header("if-none-exist").removeprefix("?") or (asked if self.method == "POST" and self.is_single else "")

    def read(self) -> None:
        """Parse and check what can be checked without the repository. Raises FhirRefusal, ParseError."""
        if self.method == "DELETE":
            self.check(None)
        else:
            self.content = exact.inspect(self.body)
            self.check(self.content)

    def check(self, content: Any) -> None:
        """As `read`, where the body has been parsed. Raises FhirRefusal."""
        self.content = content
        if self.found.kind == "message":
            self._read_message()
            return
        if not self.is_single:
            self._check_bundle()
            return
        request = Request(self.method, self.found.resource_type, self.found.resource_id)
        for condition in (self.condition, self.if_none_exist or None):
            if condition is not None:
                parse_query(request.resource_type, condition, condition=True)
        if self._header("if-match"):
            version_of(self._header("if-match"))
        if self.method != "DELETE":
            body_of(request, content)

    def _read_message(self) -> None:
        self.header = read_header(self.content)
        if any(name in ("async", "response-url") and value != "false" for name, value in self.found.parameters()):
            raise FhirRefusal(400, "messages are answered at once here: async and response-url are not offered", issue="not-supported")

    def _check_bundle(self) -> None:
        content = self.content
        if content.get("resourceType") != "Bundle" or content.get("type") not in ("transaction", "batch"):
            text = "a transaction or batch Bundle is posted here, and a message to $process-message"
            raise FhirRefusal(400, text, issue="invalid", location="Bundle.type")
        entries = content.get("entry", [])
        if not isinstance(entries, list):
            raise FhirRefusal(400, "entry must be a list", issue="structure", location="Bundle.entry")
        if content["type"] == "transaction":
            for index, entry in enumerate(entries):
                check_entry(entry, index)

    @property
    def message_type(self) -> str:
        """Of the envelope."""
        if self.is_single:
            return interaction(self.method, self.found.resource_type)
        if self.header is not None:
            return self.header.event
        return f"Bundle {self.content.get('type', '')}" if isinstance(self.content, dict) else "Bundle"

    @property
    def parts(self) -> list[str]:
        """The interactions that it is made of; a message brings what is in it."""
        if self.is_single:
            return [self.message_type]
        if self.header is not None:
            return sorted({interaction("POST", one.resource_type) for one in contents(self.content)})
        return bundled(self.content)

    def requests(self) -> list[Request]:
        """What each interaction asks for. Raises FhirRefusal."""
        if self.header is not None:
            return contents(self.content)
        if not self.is_single:
            return [read_entry(entry, index) for index, entry in enumerate(self.content.get("entry", []))]
        found = Request(self.method, self.found.resource_type, self.found.resource_id, condition=self.condition)
        found.if_none_exist = self.if_none_exist or None
        found.resource = self.content
        return [found]

    def _header(self, name: str) -> str:
        return self.message.headers.get(name, "")

    def envelope(self, received_at: int) -> Any:
        """The request as the pipeline has it."""
        wrapped = self.is_single and self._content_type == FHIR_JSON and (self.content is not None or self.method == "DELETE")
        return envelope(
            self._bundle() if wrapped else self.body, self.content, self.sender, self.message.headers,
            message_id="" if self.header is None else self.header.id, digest=b"" if self.header is None else digest(self.content),
            content_type=self._content_type, message_type=self.message_type, received_at=received_at, facts=self._facts(),
        )  # fmt: skip

    def _bundle(self) -> bytes:
        url = self.found.resource_type
        if self.found.resource_id:
            url = f"{url}/{self.found.resource_id}"
        elif self.condition is not None:
            url = f"{url}?{self.condition}"
        return single_entry(self.method, url, self.body, self._header("if-match"), self.if_none_exist)

    def _facts(self) -> dict[str, str]:
        facts = {"request.method": self.method, "request.url": self.message.start[1]}
        for name, fact in _FACT_HEADERS.items():
            if name in self.message.headers:
                facts[fact] = self.message.headers[name]
        if self._original:
            facts["request.content_type"] = FHIR_XML
            facts[ORIGINAL] = packed(self._original)
        if self.is_single:
            facts["resource.type"] = self.found.resource_type
        elif self.header is not None:
            facts |= {**self.header.facts(), PARTS: ", ".join(self.parts)}
        elif isinstance(self.content, dict):
            facts["bundle.type"] = str(self.content.get("type", ""))
            facts[PARTS] = ", ".join(self.parts)
        return facts
