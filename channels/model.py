"""Loads a site: every file, every fault, and the channels as the engine runs them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from channels.program import ChannelProgram, Route
from channels.spec import CHANNEL, DESTINATION, NODE, split_adapter
from engine import registry
from engine.channel import Channel, Order, Outlet, PartyCheck, Program, Recipe, Retry, ReusedKey
from engine.contracts import Adapter, Codec, GivingByOptions, LookingInto, Mapper
from engine.deidentify.content import CONTENT
from engine.deidentify.policy import check_key
from engine.documents import read_yaml
from engine.errors import ConfigError, Fault
from engine.expressions import Predicate
from engine.message import FHIR_JSON
from engine.options import Place, Settings, Spec
from engine.secrets import secrets_of

_NO_SOURCE: Final = Spec("source", "", [])


@dataclass
class Site:
    """A loaded site. `warnings` do not keep it from running; `disabled` are the channels that do not run;
    `files` says in which file each channel is."""

    folder: Path
    node: Settings
    channels: tuple[Channel, ...]
    warnings: list[Fault] = field(default_factory=list)
    disabled: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / str(self.node.store.path)

    @property
    def certs(self) -> Path:
        return self.folder / str(self.node.certs)


def load(folder: Path, *, secrets: bool = True) -> Site:
    """Raises ConfigError with every fault of every file. Without `secrets` what is referred to need not be there: a channel's tests
    run where nobody has the site's passwords."""
    faults: list[Fault] = []
    if not (folder / "meridian.yaml").exists():
        raise ConfigError([Fault(str(folder), 0, "there is no meridian.yaml here; make a site with: meridian init FOLDER")])
    node = NODE.parse(read_yaml(folder / "meridian.yaml", "meridian.yaml", faults), Place("meridian.yaml", 1, "", folder), faults)
    files = sorted((folder / "channels").glob("*.yaml"))
    loader = _Loader(folder, faults)
    channels = [channel for file in files if (channel := loader.channel(file)) is not None]
    loader.check_together(channels)
    if not files:
        faults.append(Fault("channels", 0, "there is no channel file (channels/*.yaml)"))
    enabled = tuple(channel for channel in channels if loader.enabled[channel.name])
    if secrets:
        _check_secrets([node, *(options for channel in enabled for options in _options(channel))], faults, loader.warnings)
        if not faults:
            _check_keys(enabled, faults)
    if faults:
        raise ConfigError(sorted(faults, key=lambda fault: (fault.file, fault.line)))
    disabled = tuple(name for name, runs in loader.enabled.items() if not runs)
    return Site(folder, node, enabled, loader.warnings, disabled, loader.files)


def _options(channel: Channel) -> list[Settings]:
    outlets = channel.outlets
    return [
        channel.source_options,
        *(outlet.options for outlet in outlets),
        *(one.deidentify for one in outlets if one.deidentify is not None),
    ]


def _check_secrets(settings: list[Settings], faults: list[Fault], warnings: list[Fault]) -> None:
    for secret in (one for some in settings for one in secrets_of(some)):
        try:
            secret.reveal()
        except ConfigError as error:
            faults.extend(error.faults)
        if exposed := secret.exposure():
            warnings.append(exposed)


def _check_keys(channels: Iterable[Channel], faults: list[Fault]) -> None:
    for settings in (outlet.deidentify for channel in channels for outlet in channel.outlets if outlet.deidentify is not None):
        if wrong := check_key(settings):
            place = settings.key.place
            faults.append(Fault(place.file, place.line, f"{place.path}: {wrong}"))


def data_folder(folder: Path) -> Path:
    """Where a site's data are, also where its channels have faults."""
    faults: list[Fault] = []
    if not (folder / "meridian.yaml").exists():
        raise ConfigError([Fault(str(folder), 0, "there is no meridian.yaml here; make a site with: meridian init FOLDER")])
    node = NODE.parse(read_yaml(folder / "meridian.yaml", "meridian.yaml", faults), Place("meridian.yaml", 1), faults)
    return folder / str(node.store.path if node.store else "data")


def compile_program(folder: str, name: str) -> Program:
    """engine.channel.Recipe: the same program in another process."""
    loader = _Loader(Path(folder), [])
    for file in sorted((Path(folder) / "channels").glob("*.yaml")):
        channel = loader.channel(file)
        if channel is not None and channel.name == name:
            return channel.program
    raise ConfigError(f"there is no channel {name!r} in {folder}")


class _Loader:
    """Reads channel files; gathers faults."""

    def __init__(self, folder: Path, faults: list[Fault]) -> None:
        self._folder, self._faults = folder, faults
        self.warnings: list[Fault] = []
        self.enabled: dict[str, bool] = {}
        self._places: dict[str, Place] = {}
        self._mappers: dict[str, Mapper | None] = {}

    def channel(self, file: Path) -> Channel | None:
        name = os.path.relpath(file, self._folder)
        before = len(self._faults)
        document = read_yaml(file, name, self._faults)
        if len(self._faults) > before:
            return None
        place = Place(name, 1, "", self._folder)
        settings = CHANNEL.parse(document, place, self._faults)
        if not isinstance(document, dict):
            return None
        source = self._source(document, place)
        outlets, routes = self._destinations(document, settings, place, source)
        if len(self._faults) > before or source is None:
            return None
        return self._compiled(settings, source, outlets, routes, place)

    def _compiled(
        self, settings: Settings, source: tuple[Adapter, Settings], outlets: list[Outlet], routes: list[Route], place: Place
    ) -> Channel:
        adapter, options = source
        codec = next(iter(self._codecs(source)), None)
        mappers = {route.mapping: mapper for route in routes if route.mapping and (mapper := self._mappers[route.mapping]) is not None}
        program = ChannelProgram(codec, settings.accept, settings.filter, routes, mappers, settings.validate)
        self.enabled[settings.name] = settings.enabled
        self._places.setdefault(settings.name, place)
        return Channel(
            name=settings.name,
            source=adapter.name,
            source_options=options,
            outlets=tuple(outlets),
            program=program,
            recipe=Recipe(compile_program, (str(self._folder.resolve()), settings.name)),
            answer_from=settings.answer.removeprefix("from ") if settings.answer != "at commit" else "",
            answer_within=settings.answer_within,
            duplicate_window=settings.duplicates.window,
            reused_key=ReusedKey(settings.duplicates.reused_key or getattr(adapter, "reused_key", ReusedKey.REFUSE)),
            parties=PartyCheck(settings.parties),
        )

    @property
    def files(self) -> dict[str, str]:
        return {name: place.file for name, place in self._places.items()}

    # --- parts -----------------------------------------------------------------------------------

    def _adapter(self, name: str, side: str, place: Place) -> Adapter | None:
        """Only the adapters that a site uses are loaded: one that is broken, or whose extra is missing, is of no concern to the others."""
        try:
            adapter = registry.adapter(name)
        except ConfigError as error:
            self._not_loaded(error, place)
            return None
        if getattr(adapter, f"{side}_options") is None:
            self._fault(place, f"{place.path}: {name!r} cannot be a {side}")
            return None
        return adapter

    def _not_loaded(self, error: ConfigError, place: Place) -> None:
        """A part of Meridian that `place` asks for, most often for want of an extra."""
        self._faults.extend(fault if fault.file else Fault(place.file, place.line, f"{place.path}: {fault.text}") for fault in error.faults)

    def _source(self, document: Any, place: Place) -> tuple[Adapter, Settings] | None:
        if "source" not in document:
            return None
        where = place.child(document, "source")
        name, node, _ = split_adapter(document["source"], _NO_SOURCE, sorted(registry.names(registry.ADAPTERS)), where, self._faults)
        adapter = self._adapter(name, "source", where.child(document["source"], name)) if name else None
        if adapter is None or adapter.source_options is None:
            return None
        source = adapter, adapter.source_options.parse(node, where.child(document["source"], name), self._faults)
        try:
            self._codecs(source)
        except ConfigError as error:
            self._not_loaded(error, where.child(document["source"], name))
            return None
        return source

    def _destinations(
        self, document: Any, settings: Settings, place: Place, source: tuple[Adapter, Settings] | None
    ) -> tuple[list[Outlet], list[Route]]:
        nodes = document.get("destinations") or []
        if not isinstance(nodes, list):
            self._fault(place.child(document, "destinations"), "destinations must be a list, each item begins with a dash")
            return [], []
        if settings.map and settings.map != "none":  # also where no destination uses it
            self._mapper(settings.map, Place(place.file, settings.lines.get("map", 0), "map"))
        outlets, routes = [], []
        where = place.child(document, "destinations")
        for index, node in enumerate(nodes):
            made = self._destination(node, settings, replace(where.child(nodes, index), path=f"destinations[{index + 1}]"))
            if made is not None:
                outlets.append(made[0])
                routes.append(made[1])
        self._check_names(outlets, settings, place, document)
        self._check_paths(document, place, source, [settings.accept, settings.filter, *(route.when for route in routes)])
        self._check_mapping_input(document, place, source, routes)
        self._check_content_paths(place, source, outlets, routes)
        self._check_deidentified(document, place, source, outlets, routes)
        return outlets, routes

    def _destination(self, node: Any, channel: Settings, place: Place) -> tuple[Outlet, Route] | None:
        name, options, rest = split_adapter(node, DESTINATION, sorted(registry.names(registry.ADAPTERS)), place, self._faults)
        settings = DESTINATION.parse(rest, place, self._faults)
        adapter = self._adapter(name, "destination", place.child(node, name)) if name else None
        if adapter is None or adapter.destination_options is None:
            return None
        parsed = adapter.destination_options.parse(options, place.child(node, name), self._faults)
        mapping = "" if settings.map == "none" else settings.map or channel.map or ""
        if mapping:
            self._mapper(mapping, place)
        if settings.order is None or settings.retry is None:  # a fault has been noted
            return None
        retry = Retry(settings.retry.first, settings.retry.most, settings.retry.give_up_after)
        order = Order(settings.order)
        outlet = Outlet(settings.name, adapter.name, parsed, order, retry, settings.deidentify)
        return outlet, Route(settings.name, settings.when, mapping, order)

    def _mapper(self, name: str, place: Place) -> None:
        """Compile a mapping once; its faults are the site's."""
        if name in self._mappers:
            return
        self._mappers[name] = None
        known = registry.names(registry.MAPPINGS)
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            fault = Fault(
                place.file, place.line, f"{place.path}: there is no mapping {name!r}", ", ".join(known), nearest[0] if nearest else ""
            )
            self._faults.append(fault)
            return
        try:
            self._mappers[name] = registry.mapping(name).compile(self._folder / "mappings")
        except ConfigError as error:
            self._not_loaded(error, place)

    def _codecs(self, source: tuple[Adapter, Settings] | None) -> list[Codec]:
        """Of what the source gives; where the adapter alone says what that is, of the first."""
        kinds = _gives(source)
        kinds = kinds if source is not None and isinstance(source[0], GivingByOptions) else kinds[:1]
        return [codec for kind in kinds if (codec := registry.codec(kind)) is not None]

    # --- checks across parts ---------------------------------------------------------------------

    def _fault(self, place: Place, text: str, allowed: str = "", nearest: str = "") -> None:
        self._faults.append(Fault(place.file, place.line, text, allowed, nearest))

    def _check_names(self, outlets: list[Outlet], settings: Settings, place: Place, document: Any) -> None:
        names = [outlet.name for outlet in outlets]
        for name in {name for name in names if names.count(name) > 1}:
            self._fault(place.child(document, "destinations"), f"two destinations are called {name!r}")
        answer = settings.answer or "at commit"
        wanted = answer.removeprefix("from ")
        if answer != "at commit" and (wanted == answer or wanted not in names):
            nearest = get_close_matches(wanted, names, 1)
            allowed = ", ".join(["at commit", *(f"from {name}" for name in names)])
            self._fault(
                place.child(document, "answer"), f"answer: {answer!r} is not possible", allowed, f"from {nearest[0]}" if nearest else ""
            )

    def _check_paths(
        self, document: Any, place: Place, source: tuple[Adapter, Settings] | None, groups: Iterable[Iterable[Predicate | None]]
    ) -> None:
        codecs = self._codecs(source)
        for predicate in (one for group in groups for one in group or () if one is not None):
            for path in predicate.paths:
                if text := _impossible(path, codecs):
                    self._fault(place, f"in {predicate.source!r}: {text}")

    def _check_mapping_input(self, document: Any, place: Place, source: tuple[Adapter, Settings] | None, routes: list[Route]) -> None:
        for name in {route.mapping for route in routes if self._mappers.get(route.mapping) is not None}:
            takes = registry.mapping(name).content_types
            gives = _gives(source)
            if source is not None and gives and not set(takes) & set(gives):
                text = f"the mapping {name} takes {', '.join(takes)}, the source {source[0].name} gives {', '.join(gives)}"
                self._fault(place.child(document, "map"), text)

    def _check_content_paths(
        self, place: Place, source: tuple[Adapter, Settings] | None, outlets: list[Outlet], routes: list[Route]
    ) -> None:
        """Those that a destination looks into its content with: of the mapping's result, or of what the source gives."""
        if any(fault.file == place.file for fault in self._faults):  # its options may have holes
            return
        for outlet, route in zip(outlets, routes, strict=True):
            adapter = registry.adapter(outlet.adapter)
            if not isinstance(adapter, LookingInto):
                continue
            if route.mapping:
                known = registry.names(registry.MAPPINGS)
                gives = [getattr(registry.mapping(route.mapping), "gives", FHIR_JSON)] if route.mapping in known else []
            else:
                gives = list(_gives(source))
            codecs = [codec for kind in gives if (codec := registry.codec(kind)) is not None]
            for line, path in adapter.content_paths(outlet.options):
                if text := _impossible(path, codecs):
                    self._faults.append(Fault(place.file, line or place.line, f"{outlet.name}: {text}"))

    def _check_deidentified(
        self, document: Any, place: Place, source: tuple[Adapter, Settings] | None, outlets: list[Outlet], routes: list[Route]
    ) -> None:
        """What cannot be de-identified would never leave."""
        gives = _gives(source)
        for outlet, route in zip(outlets, routes, strict=True):
            if outlet.deidentify is not None and not route.mapping and gives and not set(gives) & set(CONTENT):
                text = f"{outlet.name}: {', '.join(gives)} cannot be de-identified as it comes; map it"
                self._fault(place.child(document, "destinations"), text)

    def check_together(self, channels: list[Channel]) -> None:
        """What only shows across files: names and ports taken twice."""
        ports: dict[Any, str] = {}
        for channel in channels:
            file = self._places[channel.name].file
            listen = channel.source_options.get("listen")
            if listen and listen[1] and self.enabled[channel.name]:
                if listen in ports:
                    line = channel.source_options.lines.get("listen", 1)
                    self._fault(Place(file, line), f"port {listen[1]} is taken by channel {ports[listen]!r} already")
                ports[listen] = channel.name
        names = [channel.name for channel in channels]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._fault(self._places[name], f"{names.count(name)} channels are called {name!r}")


def _gives(source: tuple[Adapter, Settings] | None) -> Sequence[str]:
    """The content types that a channel's source gives; empty = anything."""
    if source is None:
        return ()
    adapter, options = source
    return adapter.gives(options) if isinstance(adapter, GivingByOptions) else adapter.content_types


def _impossible(path: str, codecs: Sequence[Codec]) -> str:
    """Why `path` can be one of none of the formats, "" where it can be or nobody knows; ``[*]`` stands for an index."""
    reasons = []
    for codec in codecs:
        try:
            if not path.endswith("[*]"):
                codec.check_path(path.replace("[*]", "[1]"))
            elif (check := getattr(codec, "check_repeating", None)) is not None:
                check(path.removesuffix("[*]"))
            else:
                raise ValueError(f"{codec.content_type} has nothing that could be gone through")
        except ValueError as error:
            reasons.append(str(error))
    return reasons[0] if codecs and len(reasons) == len(codecs) else ""
