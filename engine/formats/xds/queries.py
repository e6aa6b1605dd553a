"""Registry Stored Query (IHE ITI TF-2 clause 3.18) and its form for several patients (3.51): requests written, answers read."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from lxml import etree

from engine.errors import LocalProtocolError, ParseError
from engine.formats.xds.model import Submission
from engine.formats.xds.names import FAILURE, MULTI_PATIENT_QUERY, QUERY, RIM, STORED_QUERY
from engine.formats.xds.reading import objects_of, read_objects
from engine.formats.xds.responses import RegistryResponse, read_response
from engine.formats.xds.writing import slot

Values = str | int | Sequence[str]


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """One row of queries.csv."""

    name: str
    id: str
    action: str
    parameters: Mapping[str, str]
    """Name to its form: ``#`` a number, ``'`` one text, "" a list of texts."""
    required: frozenset[str]


def _load() -> Mapping[str, StoredQuery]:
    text = files("engine.formats.xds").joinpath("queries.csv").read_text("utf-8")
    found = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        words = row["parameters"].split()
        action = MULTI_PATIENT_QUERY if row["action"] else STORED_QUERY
        known = {word.rstrip("!#'"): word.rstrip("!")[-1] if word.rstrip("!").endswith(("#", "'")) else "" for word in words}
        required = frozenset(word.rstrip("!#'") for word in words if word.endswith("!"))
        found[row["query"]] = StoredQuery(row["query"], f"urn:uuid:{row['id']}", action, known, required)
    return found


QUERIES: Final = _load()


def write_query(name: str, parameters: Mapping[str, Values], *, leaves: bool = True, home: str = "") -> Any:
    """An AdhocQueryRequest. `leaves`: whole objects are wanted (returnType LeafClass), else their ids (ObjectRef). Raises
    LocalProtocolError for a parameter that the query does not have or lacks."""
    query = QUERIES[name]
    unknown, missing = set(parameters) - set(query.parameters), query.required - set(parameters)
    if unknown or missing:
        raise LocalProtocolError(f"{name} {'has no' if unknown else 'needs'} {', '.join(sorted(unknown or missing))}")
    root = etree.Element(f"{{{QUERY}}}AdhocQueryRequest", nsmap={"query": QUERY, "rim": RIM})
    wanted = "LeafClass" if leaves else "ObjectRef"
    etree.SubElement(root, f"{{{QUERY}}}ResponseOption", {"returnComposedObjects": "true", "returnType": wanted})
    adhoc = etree.SubElement(root, f"{{{RIM}}}AdhocQuery", {"id": query.id, **({"home": home} if home else {})})
    for parameter, values in parameters.items():
        adhoc.append(slot(parameter, _literals(query.parameters[parameter], values)))
    return root


def _literals(form: str, values: Values) -> list[str]:
    """3.18.4.1.2.3.5: numbers (and times) as they are, text in single quotes (doubled inside), lists in parentheses."""
    if form == "#" or isinstance(values, int):
        return [str(values)]
    quoted = ["'" + value.replace("'", "''") + "'" for value in ([values] if isinstance(values, str) else values)]
    return quoted if form else [f"({one})" for one in quoted]


@dataclass(slots=True)
class QueryAnswer:
    """`objects` is the RegistryObjectList as it came (None after a failure), `submission` what stands in it, `references` the ids where
    only those were asked for."""

    response: RegistryResponse
    objects: Any
    submission: Submission
    references: tuple[str, ...]


def read_answer(payload: Any) -> QueryAnswer:
    """An AdhocQueryResponse. Raises ParseError for another element."""
    if payload is None or payload.tag != f"{{{QUERY}}}AdhocQueryResponse":
        raise ParseError("the answer is no AdhocQueryResponse", location="Body")
    objects = objects_of(payload)
    response = read_response(payload)
    if objects is None:
        if response.status != FAILURE:
            objects = etree.Element(f"{{{RIM}}}RegistryObjectList")
        else:
            return QueryAnswer(response, None, Submission(), ())
    references = tuple(one.get("id", "") for one in objects.iterchildren(f"{{{RIM}}}ObjectRef"))
    return QueryAnswer(response, objects, read_objects(objects), references)
