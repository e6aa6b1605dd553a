"""JSON Schemas for editors and the manual's tables, both from the option specs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from channels.spec import CHANNEL, DESTINATION, NODE
from engine import registry
from engine.errors import ConfigError
from engine.options import Spec


def _sides(side: str) -> dict[str, Spec]:
    """Of the adapters that can be loaded here."""
    found = {}
    for name in sorted(registry.names(registry.ADAPTERS)):
        with suppress(ConfigError):
            found[name] = getattr(registry.adapter(name), f"{side}_options")
    return {name: spec for name, spec in found.items() if spec is not None}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of meridian.yaml (``meridian``) and of a channel file (``channel``)."""
    channel, destination = CHANNEL.json_schema(), DESTINATION.json_schema()
    sources = {name: spec.json_schema() for name, spec in _sides("source").items()}
    channel["properties"]["source"] = {"type": "object", "properties": sources, "additionalProperties": False, "maxProperties": 1}
    destination["properties"].update({name: spec.json_schema() for name, spec in _sides("destination").items()})
    channel["properties"]["destinations"] = {"type": "array", "items": destination}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {"meridian": {**head, **NODE.json_schema()}, "channel": {**head, **channel}}


def manual() -> str:
    """Every option as Markdown."""
    parts = [_section("meridian.yaml", NODE), _section("channels/*.yaml", CHANNEL), _section("a destination", DESTINATION)]
    parts += [_section(f"source `{name}`", spec) for name, spec in _sides("source").items()]
    parts += [_section(f"destination `{name}`", spec) for name, spec in _sides("destination").items()]
    return "\n\n".join(parts)


def _section(title: str, spec: Spec) -> str:
    inner = (f"`{path}`: {nested.doc}\n\n{nested.manual()}" for path, nested in _nested(spec))
    return "\n\n".join([f"## {title}", spec.doc, spec.manual(), *inner])


def _nested(spec: Spec, above: str = "") -> Iterator[tuple[str, Spec]]:
    """The specs inside, however deep, each with its path of names."""
    for option in spec.options:
        if isinstance(option.kind, Spec):
            path = f"{above}{option.name}"
            yield path, option.kind
            yield from _nested(option.kind, f"{path}.")
