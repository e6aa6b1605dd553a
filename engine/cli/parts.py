"""The parts of a loaded site that an adapter stands behind: each source, each destination."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine import registry
from engine.examination import Examining, Finding, View

if TYPE_CHECKING:
    from channels import Site
    from engine.options import Settings


@dataclass(frozen=True)
class Package:
    """One from an index of packages."""

    name: str

    @property
    def how(self) -> str:
        """What to tell pip."""
        extra = registry.extra_of(self.name)
        return f"'meridian[{extra}]'" if extra else self.name


@dataclass(frozen=True)
class Part:
    """`file` is the channel's."""

    name: str
    side: str
    adapter: str
    options: Settings
    file: str
    folder: Path

    def missing(self) -> list[Package]:
        """Packages that its adapter loads only when it runs (an attribute `requires`), as far as they are not installed."""
        wanted = getattr(registry.adapter(self.adapter), "requires", ())
        return [Package(name) for name in wanted if find_spec(name) is None]

    def findings(self) -> list[Finding]:
        """What its adapter finds."""
        adapter = registry.adapter(self.adapter)
        if not isinstance(adapter, Examining):
            return []
        return list(adapter.examine_site(self.options, View(self.name, self.side, self.folder)))


def parts(site: Site) -> Iterator[Part]:
    """Of the channels that run."""
    for channel in site.channels:
        file = site.files[channel.name]
        yield Part(channel.name, "source", channel.source, channel.source_options, file, site.folder)
        for outlet in channel.outlets:
            yield Part(f"{channel.name}/{outlet.name}", "destination", outlet.adapter, outlet.options, file, site.folder)
