"""``meridian check``: every fault of a site, with file and line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import typer

from certs import check as check_certs
from channels import Site, load
from engine.cli.output import AS_JSON, print_json
from engine.cli.parts import parts
from engine.errors import ConfigError, Fault
from engine.examination import Level
from engine.options import Settings
from engine.tls import check_files


def command(site: Path = typer.Argument(Path("."), help="The site's folder."), as_json: bool = AS_JSON) -> None:
    """Check a site: options, channels, mappings, certificates. Exit code 1 when it cannot run as it is."""
    faults, warnings, channels = _check(site)
    if as_json:
        print_json(
            {"ok": not faults, "faults": [asdict(f) for f in faults], "warnings": [asdict(w) for w in warnings], "channels": channels}
        )
    else:
        for fault in faults:
            typer.echo(str(fault))
        for warning in warnings:
            typer.echo(f"warning: {warning}")
        typer.echo(("1 fault" if len(faults) == 1 else f"{len(faults)} faults") if faults else f"fine: {', '.join(channels)}")
    raise typer.Exit(1 if faults else 0)


def _check(folder: Path) -> tuple[list[Fault], list[Fault], list[str]]:
    try:
        site = load(folder)
    except ConfigError as error:
        return error.faults, [], []
    faults, warnings = _certificates(site)
    return faults, [*site.warnings, *warnings, *_adapters(site)], [channel.name for channel in site.channels]


def _adapters(site: Site) -> list[Fault]:
    """What adapters find around their options; it does not keep a site from running."""
    return [
        Fault(part.file, part.options.lines.get(finding.option, 0), finding.text + (f"; {finding.advice}" if finding.advice else ""))
        for part in parts(site)
        for finding in part.findings()
        if finding.level is not Level.OK
    ]


def _signing(folder: Path, options: Any) -> None:
    """Raises ConfigError where the files that WS-Security is asked for with cannot be used."""
    from adapters.soap.security.files import check_files

    if isinstance(options, Settings):  # an adapter from elsewhere may mean something else by it
        check_files(folder, options)


NAMING_FILES: Final = {"tls": check_files, "security": _signing}
"""Options that name files of the certs folder."""


def unusable(site: Site) -> list[Fault]:
    """Each channel's certificates and keys, loaded as its listener or client would."""
    found = []
    for channel in site.channels:
        for options in (channel.source_options, *(outlet.options for outlet in channel.outlets)):
            for name, check in NAMING_FILES.items():
                try:
                    if options.get(name):
                        check(site.certs, options[name])
                except ConfigError as error:
                    found.append(Fault(site.files[channel.name], options.lines[name], error.text))
    return found


def _certificates(site: Site) -> tuple[list[Fault], list[Fault]]:
    """What is wrong in the certs folder; only of interest when a channel uses it, or there is one at all."""
    each = [options for channel in site.channels for options in (channel.source_options, *(outlet.options for outlet in channel.outlets))]
    uses = [options for options in each if options.get("tls")]
    if not any(options.get(name) for options in each for name in NAMING_FILES) and not site.certs.is_dir():
        return [], []
    findings = [finding for finding in check_certs(site.certs) if finding.problem]
    known = [Fault(f"{site.node.certs}/{f.file}".rstrip("/"), 0, f.problem) for f in findings]
    fatal = [fault for fault, finding in zip(known, findings, strict=True) if finding.fatal and uses]
    if not fatal:
        fatal += unusable(site)
    return fatal, [fault for fault in known if fault not in fatal]
