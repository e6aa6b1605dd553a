"""``meridian parties``: who may send: institutions, staff and devices. A running node takes changes up within a second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Final

import typer

from channels.model import data_folder
from engine.cli.audited import audited, audited_all
from engine.cli.opened import now
from engine.cli.output import AS_JSON, SITE, local_time, print_json, print_table
from engine.errors import ConfigError, Fault
from engine.parties import Party, Registry
from engine.parties.keys import key_id, public_keys, read_key
from engine.parties.model import faults_of, together
from engine.parties.registry import FILE
from engine.parties.table import COLUMNS, MARKS, party_of, read

app = typer.Typer(no_args_is_help=True, help="Register who may send: institutions, staff and devices.")

PARTY = typer.Argument(help="The party's id: its name in certificates.")
_ENCODINGS: Final = {"utf-8": "utf-8-sig", "gb18030": "gb18030"}
_AUDITED: Final = COLUMNS[1:]
_MOST_KEYS: Final = 64 << 10
_TOLD: Final = 1000
"""Characters of a list in the audit: who wants all of it asks the registry."""


@app.command()
def add(
    party: str = PARTY,
    kind: str = typer.Option(..., help="institution, staff or device."),
    name: str = typer.Option("", help="Its name, in its own words."),
    belongs_to: str = typer.Option("", help="Id of the party above it, which may send in its name.", metavar="PARTY"),
    identifier: list[str] = typer.Option([], help="SYSTEM|VALUE; systems: uscc, ws218, or a URI."),
    certificate: list[str] = typer.Option([], help="A further party name in its certificates."),
    ae_title: list[str] = typer.Option([], help="DICOM AE title."),
    sender: list[str] = typer.Option([], help="MSH-3|MSH-4."),
    serial: list[str] = typer.Option([], help="Serial number of an instrument."),
    may_send: list[str] = typer.Option([], help="Message type such as ORU^R01, ADT^*, Observation or *; none: it may send nothing."),
    channel: list[str] = typer.Option([], help="Channel that it may send on; none: all."),
    key: list[Path] = typer.Option([], help="File with its public key: PEM, certificate, JWK or JWK set; RSA, or EC on P-384."),
    patient: list[str] = typer.Option([], help="Patient that it sends of, Patient/ID or SYSTEM|VALUE; none: all."),
    requests_per_minute: int = typer.Option(0, min=0, help="Most of its requests over HTTP; 0: no limit."),
    change: bool = typer.Option(False, help="Replace what is known of a party; whether it is disabled stays."),
    site: Path = SITE,
    as_json: bool = AS_JSON,
) -> None:
    """Register a party. Options that are lists can be given several times."""
    lists = {
        "identifiers": identifier, "certificates": certificate, "ae_titles": ae_title, "senders": sender, "serials": serial,
        "may_send": may_send, "channels": channel, "keys": [_key_file(file) for file in key], "patients": patient,
    }  # fmt: skip
    try:
        new = party_of(party, kind, name=name, belongs_to=belongs_to, lists=lists, requests_per_minute=str(requests_per_minute))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with _registry(site) as registry, registry.change() as parties:
        if (party in parties) is not change:
            raise ConfigError(f"there is no party {party!r} to change" if change else f"{party!r} is registered; --change replaces it")
        if faults := [*faults_of(new), *(text for _, text in _put(parties, [new]))]:
            raise ConfigError("; ".join(faults))
        audited(site, "parties.changed" if change else "parties.added", **_facts(new))
    _say(parties[party], "changed" if change else "registered", as_json)


@app.command("list")
def list_parties(site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """List all parties."""
    parties = _parties(site)
    if as_json:
        print_json([_plain(party) for party in parties.values()])
        return
    rows = [(p.id, p.kind, p.name, p.belongs_to, " ".join(p.may_send), " ".join(p.channels) or "all", _state(p)) for p in parties.values()]
    print_table("parties", ("id", "kind", "name", "belongs to", "may send", "channels", ""), rows)


@app.command()
def show(party: str = PARTY, site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Show all that is known of a party."""
    found = _known(_parties(site), party)
    if as_json:
        print_json(_plain(found))
        return
    rows = [
        (what, value) for what, values in _plain(found).items() for value in (values if isinstance(values, list) else [values]) if value
    ]
    print_table(party, ("what", "value"), [(what, local_time(value) if what == "disabled_at" else value) for what, value in rows])


@app.command()
def disable(
    party: str = PARTY,
    reason: str = typer.Option(..., help="Why; it is shown and audited."),
    site: Path = SITE,
    as_json: bool = AS_JSON,
) -> None:
    """Refuse everything from a party, and from those that belong to it."""
    if not reason.strip() or len(reason) > 200 or not reason.isprintable():
        raise ConfigError("a reason has 1 to 200 characters, and is one line")
    with _registry(site) as registry, registry.change() as parties:
        parties[party] = replace(_known(parties, party), disabled_at=now(), disabled_why=reason)
        audited(site, "parties.disabled", party=party, reason=reason)
    _say(parties[party], "disabled", as_json)


@app.command()
def enable(party: str = PARTY, site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Take messages from a party again."""
    with _registry(site) as registry, registry.change() as parties:
        parties[party] = replace(_known(parties, party), disabled_at=0, disabled_why="")
        audited(site, "parties.enabled", party=party)
    _say(parties[party], "enabled", as_json)


@app.command()
def keys(
    party: str = PARTY,
    new: list[Path] = typer.Option([], "--add", help="File with a public key that it has from now on."),
    remove: list[str] = typer.Option([], help="Key id (kid) of one that it has no more."),
    site: Path = SITE,
    as_json: bool = AS_JSON,
) -> None:
    """List the public keys of a party, or change them: the new one is added, the device begins to use it, the old one is removed."""
    if not new and not remove:
        _list_keys(_known(_parties(site), party), as_json)
        return
    try:
        added = [key for file in new for key in public_keys(_key_file(file))]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with _registry(site) as registry, registry.change() as parties:
        old = _known(parties, party)
        if unknown := [one for one in remove if one not in map(key_id, old.keys)]:
            raise ConfigError(f"{party} has no key {unknown[0]!r}; it has {', '.join(map(key_id, old.keys)) or 'none'}")
        kept = [key for key in old.keys if key_id(key) not in remove]
        parties[party] = replace(old, keys=tuple(dict.fromkeys([*kept, *added])))
        if faults := [*faults_of(parties[party]), *(text for name, text in together(parties) if name == party)]:
            raise ConfigError("; ".join(faults))
        audited(site, "parties.changed", **_facts(parties[party]))
    _say(parties[party], "changed", as_json)


@app.command("import")
def import_file(
    file: Path = typer.Argument(help="CSV with a header line: id, kind, name, belongs_to, identifiers, certificates, ae_titles, ..."),
    encoding: str = typer.Option("utf-8", help="utf-8 or gb18030."),
    site: Path = SITE,
    as_json: bool = AS_JSON,
) -> None:
    """Register or change many parties: all of them, or none where any line is at fault. Parties that the file does not name stay as
    they are, and so does who is disabled. Exit code 1 where a line is at fault."""
    faults: list[Fault] = []
    rows = read(_lines(file, encoding), str(file), faults)
    added, changed = [], []
    try:
        with _registry(site) as registry, registry.change() as parties:
            before = dict(parties)
            wrong = _put(parties, [party for _, party in rows.values()])
            faults.extend(Fault(str(file), rows[name][0], text) for name, text in wrong)
            if faults:
                raise ConfigError(sorted(faults, key=lambda fault: fault.line))
            added = [name for name in rows if name not in before]
            changed = [name for name in rows if name in before and before[name] != parties[name]]
            told = [("parties.added", name) for name in added] + [("parties.changed", name) for name in changed]
            audited_all(site, [(event, {**_facts(parties[name]), "file": file.name}) for event, name in told])
    except ConfigError as error:
        if not faults:
            raise
        faults = error.faults
    if as_json:
        print_json({"ok": not faults, "faults": [asdict(fault) for fault in faults], "added": added, "changed": changed})
    else:
        for fault in faults:
            typer.echo(str(fault))
        at_fault = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        typer.echo(f"nothing was imported: {at_fault}" if faults else f"{len(added)} added, {len(changed)} changed")
    raise typer.Exit(1 if faults else 0)


# --- parts ---------------------------------------------------------------------------------------


def _registry(site: Path) -> Registry:
    """Parties are registered before a node runs for the first time, so the folder of its data is made here."""
    data = data_folder(site)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Registry(data)


def _parties(site: Path) -> dict[str, Party]:
    data = data_folder(site)
    if not (data / FILE).exists():
        return {}
    with Registry(data) as registry:
        return registry.parties()


def _known(parties: Mapping[str, Party], party: str) -> Party:
    if party not in parties:
        nearest = get_close_matches(party, parties, 1)
        raise ConfigError(f"there is no party {party!r}{f'; did you mean {nearest[0]!r}?' if nearest else ''}")
    return parties[party]


def _put(parties: dict[str, Party], new: Iterable[Party]) -> list[tuple[str, str]]:
    """Lay `new` over `parties`; gives the ids of those that do not fit, and why. Who is disabled stays so."""
    ids = set()
    for party in new:
        old = parties.pop(party.id, party)  # to the end: of two that claim the same, the new one is told
        parties[party.id] = replace(party, disabled_at=old.disabled_at, disabled_why=old.disabled_why)
        ids.add(party.id)
    return [(name, text) for name, text in together(parties) if name in ids]


def _list_keys(party: Party, as_json: bool) -> None:
    """Key id (kid) and algorithm of each."""
    if as_json:
        print_json([json.loads(key) for key in party.keys])
    else:
        for key in party.keys:
            typer.echo(" ".join(read_key(key)[:2]))


def _key_file(file: Path) -> str:
    """Far longer ones are no keys."""
    try:
        with file.open("rb") as content:
            return content.read(_MOST_KEYS).decode()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is no text: a public key is PEM, or a JWK") from None


def _lines(file: Path, encoding: str) -> Iterable[str]:
    if encoding not in _ENCODINGS:
        raise ConfigError(f"--encoding: {encoding!r} is not one of {', '.join(_ENCODINGS)}")
    try:
        text = file.read_bytes().decode(_ENCODINGS[encoding])
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not {encoding}; spreadsheets often write gb18030 (--encoding)") from None
    return StringIO(text, newline="")


def _plain(party: Party) -> dict[str, Any]:
    """By the names of a CSV file's columns."""
    return {
        "id": party.id,
        "kind": party.kind,
        "name": party.name,
        "belongs_to": party.belongs_to,
        "identifiers": [f"{system}|{value}" for system, value in party.identifiers],
        **{column: list(party.of(mark)) for column, mark in MARKS.items()},
        "may_send": list(party.may_send),
        "channels": list(party.channels),
        "keys": list(party.keys),
        "patients": list(party.patients),
        "requests_per_minute": party.requests_per_minute,
        "disabled_at": party.disabled_at,
        "disabled_why": party.disabled_why,
    }


def _facts(party: Party) -> dict[str, str]:
    """For the audit: of identifiers, which can be a person's, only the systems, of patients the number; of keys their names."""
    facts = {**_plain(party), "party": party.id, "identifiers": [system for system, _ in party.identifiers]}
    facts |= {"keys": [key_id(key) for key in party.keys], "patients": len(party.patients) or ""}
    facts["requests_per_minute"] = party.requests_per_minute or ""
    told = {name: " ".join(value) if isinstance(value, list) else str(value) for name, value in facts.items()}
    return {name: told[name][:_TOLD] for name in ("party", *_AUDITED)}


def _state(party: Party) -> str:
    return f"disabled {local_time(party.disabled_at)}: {party.disabled_why}" if party.disabled_at else ""


def _say(party: Party, done: str, as_json: bool) -> None:
    if as_json:
        print_json(_plain(party))
    else:
        typer.echo(f"{party.id} is {done}")
