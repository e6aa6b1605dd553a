"""Resources of any type of FHIR R4 made at random by the table of elements: right in structure, senseless in content."""

from __future__ import annotations

import random
from typing import Any

from engine.formats import fhir
from engine.formats.fhir_r4 import Element, Type, types

_TEXTS = ("a", "钱伟", "x & <y>", 'say "it"', "two\nlines", "1.50", "😀")
_VALUES: dict[str, Any] = {
    "base64Binary": "QUJD", "boolean": True, "canonical": "http://a.example/b|1", "code": "a-code", "date": "2024-02-29",
    "dateTime": "2024-02-29T08:30:00.250+08:00", "decimal": fhir.Exact("1.500"), "id": "i-1", "instant": "2024-02-29T08:30:00Z",
    "integer": -7, "markdown": "*a*\n\n- b", "oid": "urn:oid:1.2.156", "positiveInt": 3, "string": "", "time": "08:30:00",
    "unsignedInt": 0, "uri": "urn:x", "url": "http://a.example", "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">a <b>b</b></div>',
}  # fmt: skip


def resource(name: str, chance: random.Random) -> dict[str, Any]:
    """A resource of that type, as engine.formats.fhir.parse would give it."""
    return _resource(name, chance, 0)


def _resource(name: str, chance: random.Random, depth: int) -> dict[str, Any]:
    return {"resourceType": name, **_object(types()[name], chance, depth)}


def _object(kind: Type, chance: random.Random, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    needed = {chance.choice(names) for names in kind.required}
    chosen = {element.choice for name in needed if (element := kind.elements[name]).choice}
    for name, element in kind.elements.items():
        wanted = name in needed or (chance.random() < 0.5 / (1 + depth) and element.choice not in chosen - {""})
        if not wanted or (depth > 3 and name not in needed):
            continue
        chosen.add(element.choice)
        _put(element, made, chance, depth + 1)
    if not made and not kind.is_resource:
        _put(next(one for one in kind.elements.values() if one.name != "extension"), made, chance, depth + 1)
    return made


def _put(element: Element, made: dict[str, Any], chance: random.Random, depth: int) -> None:
    if element.kind not in _VALUES:
        one = [_complex(element, chance, depth) for _ in range(1 + chance.randrange(2) if element.name != "contained" else 1)]
        made[element.name] = one if element.repeats else one[0]
        return
    values = [_value(element, chance) for _ in range(1 + chance.randrange(3))] if element.repeats else _value(element, chance)
    if element.attribute or element.kind == "xhtml" or chance.random() > 0.2:
        made[element.name] = values
        return
    added = {"id": "p1", "extension": [{"url": "urn:e", "valueDecimal": fhir.Exact("0.10")}]}
    if not element.repeats:
        made.update({element.name: values, f"_{element.name}": added} if chance.random() < 0.5 else {f"_{element.name}": added})
    else:
        at = chance.randrange(len(values) + 1)
        made[element.name] = [*values[:at], None, *values[at:]]
        made[f"_{element.name}"] = [added if index == at else None for index in range(len(values) + 1)]


def _value(element: Element, chance: random.Random) -> Any:
    if element.codes:
        return chance.choice(element.codes)
    return chance.choice(_TEXTS) if element.kind == "string" else _VALUES[element.kind]


def _complex(element: Element, chance: random.Random, depth: int) -> dict[str, Any]:
    kind = types().get(element.kind)
    if kind is not None and not kind.is_resource:
        return _object(kind, chance, depth)
    name = kind.name if kind is not None else chance.choice(("Basic", "Patient", "Organization"))
    made = _resource(name, chance, max(depth, 3))
    if element.name == "contained":
        made.pop("contained", None)
        made["id"] = "c1"
    return made
