"""What `meridian doctor` looks at, in its order; one function each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from certs import check as check_certs
from certs.inspection import Finding as Looked
from engine.cli.check import NAMING_FILES, unusable
from engine.cli.patient import Patient
from engine.cli.surroundings import disk, peers, ports, store
from engine.examination import Finding, Level

AHEAD_SECONDS: Final = 60.0


def configuration(patient: Patient) -> Iterator[Finding]:
    """As `meridian check` sees it; a package that is missing shows here too."""
    if patient.site is None:
        for fault in patient.faults:
            yield Finding(Level.FAIL, "configuration", str(fault), "" if "pip install" in fault.text else "correct it; see: meridian check")
        return
    for warning in patient.site.warnings:
        yield Finding(Level.WARN, "configuration", str(warning))
    names = ", ".join(channel.name for channel in patient.site.channels) or "none"
    yield Finding(Level.OK, "configuration", f"channels: {names}")
    for name in patient.site.disabled:
        yield Finding(Level.WARN, "configuration", f"channel {name} is disabled", "say enabled: true, or remove it")


def certificates(patient: Patient) -> Iterator[Finding]:
    """Only of interest where TLS or WS-Security uses some, or there are some."""
    tls = any(part.options.get("tls") for part in patient.parts)
    if not any(part.options.get(name) for part in patient.parts for name in NAMING_FILES) and not patient.certs.is_dir():
        return
    found = check_certs(patient.certs)
    troubles = [*_troubled_files(found, patient, tls), *_unusable(patient)]
    yield from troubles
    if not troubles:
        left = min((one.days_left for one in found if one.days_left is not None), default=None)
        yield Finding(Level.OK, "certificates", f"{len(found)} files" + ("" if left is None else f", the first expires in {left:.0f} days"))


def _troubled_files(found: Sequence[Looked], patient: Patient, tls: bool) -> Iterator[Finding]:
    for one in found:
        if one.problem:
            level = Level.FAIL if one.fatal and tls else Level.WARN
            advice = _RENEW if "expire" in one.problem and "list" not in one.problem else ""
            yield Finding(level, "certificates", f"{one.file or patient.certs}: {one.problem}", advice)


def _unusable(patient: Patient) -> Iterator[Finding]:
    """Loaded as their listeners and clients would."""
    for fault in unusable(patient.site) if patient.site is not None else ():
        yield Finding(Level.FAIL, "certificates", str(fault), "name files that are there, or make them: meridian certs")


_RENEW: Final = "meridian certs renew PARTY --ca FOLDER, and copy the new files"


def adapters(patient: Patient) -> Iterator[Finding]:
    """The packages that each adapter needs, and what it knows of its own options."""
    for part in patient.parts:
        for package in part.missing():
            text = f"the package {package.name} is not installed"
            yield Finding(Level.FAIL, f"{part.name} packages", text, f"pip install {package.how}")
        for found in part.findings():
            yield Finding(found.level, f"{part.name} {found.subject}", found.text, found.advice, found.option)


def clock(patient: Patient) -> Iterator[Finding]:
    """Not before what was written last: times of messages, certificates and duplicates all hang on it."""
    now = time.time()
    written = [Path(__file__), *(patient.data.glob("*") if patient.data.is_dir() else ())]
    newest = max(one.stat().st_mtime for one in written if one.exists())
    if newest > now + AHEAD_SECONDS:
        text = f"the clock is {newest - now:.0f} s behind the time at which files here were written"
        yield Finding(Level.FAIL, "clock", text, "set the clock, and keep it by NTP (chrony, systemd-timesyncd)")
    else:
        yield Finding(Level.OK, "clock", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now)))


examinations: Final[Sequence[Callable[[Patient], Iterator[Finding]]]] = (
    configuration,
    certificates,
    store,
    disk,
    ports,
    adapters,
    clock,
    peers,
)
