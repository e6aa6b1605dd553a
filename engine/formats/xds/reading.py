"""ebRIM elements -> engine.formats.xds.model. What cannot be placed is left out here; what must be there is looked for in `checking`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine.errors import ParseError
from engine.formats.xds import names
from engine.formats.xds.model import Association, Author, Code, Described, DocumentEntry, Folder, Submission, SubmissionSet
from engine.formats.xds.names import ATTRIBUTES, LCM, QUERY, RIM, XDSB

Element = Any
_AUTHOR_SLOTS: Final = {
    "authorPerson": "persons",
    "authorInstitution": "institutions",
    "authorRole": "roles",
    "authorSpecialty": "specialties",
    "authorTelecommunication": "telecommunications",
}
_CLASSIFICATION: Final = f"{{{RIM}}}Classification"
_CODING_SCHEME: Final = "codingScheme"


def read_submission(payload: Element) -> Submission:
    """A ProvideAndRegisterDocumentSetRequest (ITI TF-2 3.41.4.1.2). Raises ParseError for another element."""
    if payload.tag != f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest":
        raise ParseError("the payload is no ProvideAndRegisterDocumentSetRequest", location="Body")
    objects = payload.find(f"{{{LCM}}}SubmitObjectsRequest/{{{RIM}}}RegistryObjectList")
    if objects is None:
        raise ParseError("there is no RegistryObjectList", location="SubmitObjectsRequest")
    submission = read_objects(objects)
    documents = payload.findall(f"{{{XDSB}}}Document")
    ids = [one.get("id", "") for one in documents]
    submission.contents = dict(zip(ids, documents, strict=True))
    submission.doubled = tuple(one for one in submission.contents if ids.count(one) > 1)
    return submission


def read_objects(objects: Element) -> Submission:
    """A RegistryObjectList: of a submission, or of a registry's answer."""
    submission = Submission()
    nodes = _nodes(objects)
    for element in objects.iterchildren(f"{{{RIM}}}ExtrinsicObject", f"{{{RIM}}}RegistryPackage", f"{{{RIM}}}Association"):
        if element.tag == f"{{{RIM}}}ExtrinsicObject":
            path = f"DocumentEntry[{len(submission.entries) + 1}]"
            submission.entries.append(_described(DocumentEntry(path), element, nodes))
        elif element.tag == f"{{{RIM}}}Association":
            submission.associations.append(_association(element, len(submission.associations) + 1))
        elif names.FOLDER in nodes.get(element.get("id", ""), ()):
            submission.folders.append(_described(Folder(f"Folder[{len(submission.folders) + 1}]"), element, nodes))
        elif names.SUBMISSION_SET in nodes.get(element.get("id", ""), ()):
            submission.sets.append(_described(SubmissionSet(f"SubmissionSet[{len(submission.sets) + 1}]"), element, nodes))
    return submission


def objects_of(answer: Element) -> Element | None:
    """The RegistryObjectList of an AdhocQueryResponse."""
    return answer.find(f"{{{RIM}}}RegistryObjectList") if answer.tag == f"{{{QUERY}}}AdhocQueryResponse" else None


def slot_values(element: Element, name: str) -> tuple[str, ...]:
    """The values of one slot of `element`, without white space around them."""
    return _slots(element).get(name, ())


def _nodes(objects: Element) -> dict[str, set[str]]:
    """By object id, the nodes that classify it; the classification may stand inside the object or beside it (4.2.1.1)."""
    found: dict[str, set[str]] = {}
    for one in objects.iter(_CLASSIFICATION):
        if node := one.get("classificationNode"):
            parent = one.getparent()
            inside = parent.get("id", "") if parent is not objects else ""
            found.setdefault(one.get("classifiedObject") or inside, set()).add(node)
    return found


def _described(one: Any, element: Element, nodes: dict[str, set[str]]) -> Any:
    for row in ATTRIBUTES.of[one.kind].values():
        if row.kind == "property" and (value := _property(element, row.name)):
            one.values[row.attribute] = (value,)
    _read_slots(one, element)
    for identifier in element.iterchildren(f"{{{RIM}}}ExternalIdentifier"):
        known = ATTRIBUTES.schemes.get(identifier.get("identificationScheme", ""))
        if known is not None and known.object == one.kind:
            one.values[known.attribute] = (*one.values.get(known.attribute, ()), identifier.get("value", "").strip())
    _read_classifications(one, element)
    one.limited = bool(names.LIMITED & nodes.get(one.id, set())) or one.limited
    return one


def _property(element: Element, name: str) -> str:
    if name in ("Name", "Description"):
        return _localized(element, name)
    return str(element.get(name, "")).strip()


def _localized(element: Element, name: str) -> str:
    found = element.find(f"{{{RIM}}}{name}/{{{RIM}}}LocalizedString")
    return found.get("value", "").strip() if found is not None else ""


def _slots(element: Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for slot in element.iterchildren(f"{{{RIM}}}Slot"):
        texts = (one.text or "" for one in slot.iterfind(f"{{{RIM}}}ValueList/{{{RIM}}}Value"))
        values = tuple(text.strip() for text in texts if text.strip())
        name = slot.get("name", "")
        found[name] = (*found.get(name, ()), *values)
    return found


def _read_slots(one: Described, element: Element) -> None:
    for name, values in _slots(element).items():
        known = ATTRIBUTES.slots.get((one.kind, name))
        if known is not None and values:
            one.values[known.attribute] = values
        elif known is None:
            one.extra[name] = values


def _read_classifications(one: Described, element: Element) -> None:
    for classification in element.iterchildren(_CLASSIFICATION):
        scheme = classification.get("classificationScheme", "")
        known = ATTRIBUTES.schemes.get(scheme)
        one.limited = one.limited or scheme in names.LIMITED  # some senders put the node there
        if known is None or known.object != one.kind:
            continue
        if known.kind == "author":
            one.authors = (*one.authors, _author(_slots(classification)))
        else:
            schemes = slot_values(classification, _CODING_SCHEME)
            code = Code(classification.get("nodeRepresentation", "").strip(), next(iter(schemes), ""), _localized(classification, "Name"))
            one.codes[known.attribute] = (*one.codes.get(known.attribute, ()), code)


def _author(slots: dict[str, tuple[str, ...]]) -> Author:
    return Author(**{field: slots[name] for name, field in _AUTHOR_SLOTS.items() if name in slots})


def _association(element: Element, number: int) -> Association:
    status: Iterable[str] = slot_values(element, "SubmissionSetStatus")
    kind, source, target = (element.get(name, "") for name in ("associationType", "sourceObject", "targetObject"))
    return Association(kind, source, target, next(iter(status), ""), f"Association[{number}]")
