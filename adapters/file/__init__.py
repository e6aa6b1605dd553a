"""Files: a watched folder, here or on another machine, whose files become messages; messages written as files.

places        the contract of a place for files        local_folder   a folder of this machine
placing       which place the options name             settling       which files are whole
splitting     which splitter the options name          envelopes      a piece as a message
reading       one file under way                       reports        what was wrong with it
attended      a file whose reading takes long
source        rounds over a place                      destination    messages as files
naming        names out of what a message says         rehearsal      a source without a folder, for channel tests
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.file.envelopes import is_labelled
from adapters.file.naming import asked_paths
from adapters.file.options import DESTINATION, SOURCE
from adapters.file.splitting import UNKNOWN, content_type_of
from engine.message import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.contracts import Context, Destination, Source
    from engine.examination import Finding, View
    from engine.message import Envelope, Judgement
    from engine.options import Settings, Spec


class FileAdapter:
    """engine.contracts.Adapter"""

    name = "file"
    content_types = ()
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.file.source import FileSource

        return FileSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.file.destination import FileDestination

        return FileDestination(options, context)

    def gives(self, options: Settings) -> Sequence[str]:
        """engine.contracts.GivingByOptions"""
        if options.format is None:
            return ()
        kind = content_type_of(options)
        return (FILE,) if is_labelled(options) else () if kind == UNKNOWN else (kind,)

    def rehearse_file(self, options: Settings, name: str, body: bytes) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.RehearsingFiles"""
        from adapters.file.rehearsal import rehearse

        return rehearse(options, name, body)

    def examine_site(self, options: Settings, view: View) -> Iterable[Finding]:
        """engine.examination.Examining"""
        from adapters.file.examining import examine

        return examine(options, view)

    def content_paths(self, options: Settings) -> Iterable[tuple[int, str]]:
        """engine.contracts.LookingInto"""
        return [(options.lines.get("name", 0), path) for path in asked_paths(options.name)]


adapter = FileAdapter()
