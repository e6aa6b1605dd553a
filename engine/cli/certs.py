"""``meridian certs``: the private certificate authority of a site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from certs import Authority, Issued, check
from engine.cli.output import AS_JSON, print_json, print_table
from engine.errors import ConfigError
from engine.options import Faulty
from engine.secrets import SECRET, reference

app = typer.Typer(no_args_is_help=True, help="Make certificates, renew and revoke them, look for trouble.")

PASSPHRASE = typer.Option("", help="Encrypt the private key with this: env:VARIABLE or file:PATH.")
FOLDER = typer.Option("certs", "--ca", help="The authority's folder.", metavar="FOLDER")


@app.command()
def init(
    folder: Path = FOLDER, name: str = typer.Option("Meridian private CA", help="The authority's name."), as_json: bool = AS_JSON
) -> None:
    """Make a private certificate authority."""
    authority = Authority.create(folder, name)
    if as_json:
        print_json({"folder": str(folder), "until": authority.certificate.not_valid_after_utc.isoformat()})
    else:
        typer.echo(f"made {folder}/ca.pem and ca.key; keep ca.key where only you can read it")


@app.command()
def issue(
    party: str = typer.Argument(help="Party to name, such as county-hospital."),
    folder: Path = FOLDER,
    profile: str = typer.Option("node", help="node, device or operator."),
    dns: list[str] = typer.Option([], help="Host name; can be given several times."),
    ip: list[str] = typer.Option([], help="IP address; can be given several times."),
    out: Path | None = typer.Option(None, help="Where to write; default: the authority's folder."),
    csr: Path | None = typer.Option(None, help="Sign this request (PEM) instead of making a key."),
    passphrase: str = PASSPHRASE,
    as_json: bool = AS_JSON,
) -> None:
    """Issue a certificate with its key, or for a request made elsewhere: of that only the key is taken, names are given here."""
    authority = Authority.open(folder)
    if csr is not None:
        if passphrase:
            raise ConfigError("--passphrase is for a key that is made here; with --csr it was made elsewhere")
        _print([authority.issue_for(_read(csr), party, profile, out or folder, dns=dns, ips=ip)], as_json)
    else:
        _print([authority.issue(party, profile, dns=dns, ips=ip, out=out, passphrase=_secret(passphrase))], as_json)


@app.command()
def renew(
    party: str = typer.Argument("", help="Party whose certificates to renew."),
    folder: Path = FOLDER,
    the_list: bool = typer.Option(False, "--list", help="Sign the revocation list anew instead."),
    passphrase: str = PASSPHRASE,
    as_json: bool = AS_JSON,
) -> None:
    """Make new keys and certificates in the place of the old ones; a running node takes them up within seconds."""
    authority = Authority.open(folder)
    if the_list:
        authority.renew_list()
        typer.echo("revocation list signed anew")
    elif not party:
        raise ConfigError("name the party whose certificates to renew, or say --list for the revocation list")
    else:
        _print(authority.renew(party, passphrase=_secret(passphrase)), as_json)


@app.command()
def revoke(
    which: str = typer.Argument(help="Party, or serial in hex."),
    folder: Path = FOLDER,
    reason: str = typer.Option("unspecified", help="keyCompromise, superseded, cessationOfOperation …"),
    as_json: bool = AS_JSON,
) -> None:
    """Revoke certificates. Copy crl.pem to the nodes that must know; running nodes take it up within seconds."""
    _print(Authority.open(folder).revoke(which, reason), as_json)


@app.command("list")
def list_issued(folder: Path = FOLDER, as_json: bool = AS_JSON) -> None:
    """List what the authority has issued."""
    _print(Authority.open(folder).issued(), as_json)


@app.command("check")
def check_folder(folder: Path = typer.Argument(Path("certs"), help="Folder to look through."), as_json: bool = AS_JSON) -> None:
    """Look for expired certificates, keys that others can read or that do not fit. Exit code 1 when there is anything."""
    findings = check(folder)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [(f.file, f.subject, f.party, "" if f.days_left is None else f"{f.days_left:.0f}", f.problem or "fine") for f in findings]
        print_table(str(folder), ("file", "subject", "party", "days left#", "state"), rows)
    raise typer.Exit(1 if any(finding.problem for finding in findings) else 0)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


def _secret(text: str) -> str:
    try:
        return reference(text).reveal() if text else ""
    except Faulty as faulty:
        raise ConfigError(f"--passphrase: {faulty.text}; allowed: {SECRET.allowed}") from None


def _print(issued: Sequence[Issued], as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in issued])
        return
    rows = [
        (one.party, one.profile, one.until, one.serial, f"{one.folder}/{one.stem}.pem", one.revoked and f"revoked: {one.reason}")
        for one in issued
    ]
    print_table("certificates", ("party", "profile", "until", "serial", "file", ""), rows)
