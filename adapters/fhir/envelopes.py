"""Requests as envelopes: pure, no socket.

A POSTed transaction or batch Bundle travels as it was received. A single create, update or delete travels as a transaction Bundle
of one entry, with the resource's bytes in it exactly as received: so every write is a Bundle to whoever comes after (the repository,
another FHIR server, a mapping), and its method, url and conditions are part of what is stored. They are facts of the envelope too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

from adapters.fhir.outcome import Answer, FhirRefusal, Issue, operation_outcome
from engine.http_answers import Sender
from engine.message import Envelope, Judgement, Verdict

_EXPRESSION = re.compile(r"[A-Z][A-Za-z]+(?:[.\[]|$)")
"""FHIRPath; judgements of the engine may have locations of HL7 v2."""
_INTERACTIONS = {"POST": "create", "PUT": "update", "DELETE": "delete"}


def single_entry(method: str, url: str, resource: bytes, if_match: str, if_none_exist: str) -> bytes:
    """The transaction Bundle for one interaction."""
    request = {"method": method, "url": url}
    if if_match:
        request["ifMatch"] = if_match
    if if_none_exist:
        request["ifNoneExist"] = if_none_exist
    body = b'"resource":' + resource + b"," if resource else b""
    return b'{"resourceType":"Bundle","type":"transaction","entry":[{%b"request":%b}]}' % (body, orjson.dumps(request))


def interaction(method: str, resource_type: str) -> str:
    """The envelope's message type: ``Patient create``."""
    return f"{resource_type} {_INTERACTIONS[method]}"


def envelope(
    body: bytes, content: Any, sender: Sender, headers: Mapping[str, str], *, message_id: str = "", digest: bytes = b"", **more: Any
) -> Envelope:
    """`content` is the parsed resource or Bundle, None where it could not be read; `headers` by lower-case name; `more` goes in as is.
    `message_id`, else the header Idempotency-Key, says which requests of this sender are one sent again; `digest` what is compared."""
    key = f"message {message_id}" if message_id else headers.get("idempotency-key", "")
    return Envelope(
        body=body,
        control_id=message_id or _control_id(content) or key or headers.get("x-request-id", ""),
        sender=_source(content),
        peer=sender.peer,
        remote=sender.remote,
        patient_ids=tuple(_patient_ids(content)),
        idempotency_key=f"{sender.who}|{key}" if key else "",
        content_digest=digest or hashlib.sha256(body).digest(),
        **more,
    )


def _control_id(content: Any) -> str:
    """A Bundle's business identifier, else its id."""
    if not isinstance(content, dict) or content.get("resourceType") != "Bundle":
        return ""
    identifier = content.get("identifier")
    value = identifier.get("value") if isinstance(identifier, dict) else None
    found = value or content.get("id")
    return found if isinstance(found, str) else ""


def _source(content: Any) -> str:
    """Resource.meta.source (R4 2.1.0.2): the system that the content claims to come from."""
    meta = content.get("meta") if isinstance(content, dict) else None
    source = meta.get("source") if isinstance(meta, dict) else None
    return source if isinstance(source, str) else ""


def _patient_ids(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return []
    entries = content.get("entry") if content.get("resourceType") == "Bundle" else None
    resources = [entry.get("resource") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else [content]
    found: list[str] = []
    for resource in resources:
        if isinstance(resource, dict) and resource.get("resourceType") == "Patient" and isinstance(resource.get("identifier"), list):
            values = (identifier.get("value") for identifier in resource["identifier"] if isinstance(identifier, dict))
            found.extend(value for value in values if isinstance(value, str))
    return found


def answer_to(judgement: Judgement, refused_as: int = 422) -> Answer:
    """What a judgement is in HTTP, where no destination has answered. `refused_as`: the status for INVALID content."""
    if judgement.verdict is Verdict.ACCEPTED:
        note = Issue("informational", "kept, and will be delivered", "information")
        return Answer(202, operation_outcome([note]))
    status = {Verdict.REFUSED: 403, Verdict.INVALID: refused_as, Verdict.UNAVAILABLE: 503}[judgement.verdict]
    headers = {"Retry-After": "5"} if status == 503 else {}
    location = judgement.location if _EXPRESSION.match(judgement.location) else ""
    return FhirRefusal(status, judgement.reason or "refused", location=location, headers=headers).answer()


def unwrap(answer: Answer) -> Answer:
    """The answer to a single interaction, out of the transaction-response that its one-entry Bundle got.

    Raises ValueError where the answer is not such a Bundle.
    """
    if answer.status != 200:
        return answer
    response = orjson.loads(answer.body)["entry"][0]["response"]
    headers = {}
    for name, header in (("etag", "ETag"), ("location", "Location"), ("lastModified", "Last-Modified")):
        if name in response:
            headers[header] = response[name]
    return Answer(int(response["status"][:3]), b"", headers)
