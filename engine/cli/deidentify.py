"""``meridian deidentify``: files without a node. DICOM instances, HL7 v2 messages (.hl7) and FHIR resources (.json)."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import typer

from engine.cli.output import print_json, print_table
from engine.deidentify.content import deidentify, deidentify_file
from engine.deidentify.policy import SPEC, Policy, policy_of
from engine.errors import ConfigError, MessageError
from engine.message import DICOM, FHIR_JSON, HL7V2

_TYPES: Final = {".hl7": HL7V2, ".json": FHIR_JSON}


def command(
    paths: list[Path] = typer.Argument(..., help="Files, and folders with all that is in them.", metavar="FOLDER|FILES"),
    out: Path = typer.Option(..., "--out", help="The folder for the results. DICOM files are named by their new UIDs."),
    key: Path = typer.Option(None, "--key", help="A file with the key of the pseudonyms; without it they are good for this run only."),
    options: list[str] = typer.Option([], "--options", help="An option of the profile, such as clean-descriptors; may be repeated."),
    dates: str = typer.Option("remove", "--dates", help="shift | remove | keep"),
    private: list[str] = typer.Option([], "--private", help="A private attribute that is kept: (0019,xx0C) SIEMENS MR HEADER"),
    authority: str = typer.Option("", "--authority", help="The assigning authority of identifiers that name none."),
    unknown_annotation: str = typer.Option("quarantine", "--unknown-annotation", help="quarantine | pass"),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """De-identify files. What still names its patient, or cannot be de-identified, is not written; exit code 1 if there was any."""
    policy = _policy(key, options=options, dates=dates, private=private, authority=authority, unknown_annotation=unknown_annotation)
    out.mkdir(parents=True, exist_ok=True)
    results = [_one(path, name, out, policy) for path, name in _files(paths, out.resolve())]
    quarantined = [result for result in results if result["reason"]]
    if as_json:
        print_json({"deidentified": len(results) - len(quarantined), "quarantined": len(quarantined), "files": results})
    else:
        print_table("", ("file", "result", "attribute", "reason"), [_row(result) for result in results])
        typer.echo(f"{len(results) - len(quarantined)} de-identified, {len(quarantined)} quarantined", err=True)
    raise typer.Exit(1 if quarantined else 0)


def _policy(key: Path | None, **options: Any) -> Policy:
    """Raises ConfigError for what an option cannot be."""
    try:
        settings = SPEC.defaults(key=f"file:{key.resolve()}" if key else "env:NONE", **options)
    except ValueError as error:
        raise ConfigError(str(error).replace("<given>: ", "")) from None
    return policy_of(settings, settings.key.reveal() if key else secrets.token_hex(32))


def _files(paths: list[Path], out: Path) -> Iterator[tuple[Path, str]]:
    """Each file with its name below what was asked for; not what is in the folder of the results."""
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and out not in file.resolve().parents)
            yield from ((file, str(file.relative_to(path))) for file in found)
        elif path.is_file():
            yield path, path.name
        else:
            raise ConfigError(f"there is no {path}")


def _one(path: Path, name: str, out: Path, policy: Policy) -> dict[str, Any]:
    try:
        written = _text(path, _TYPES[path.suffix], name, out, policy) if path.suffix in _TYPES else _instance(path, out, policy)
    except MessageError as error:
        return {"file": str(path), "out": "", "attribute": error.location, "reason": error.text}
    return {"file": str(path), "out": str(written), "attribute": "", "reason": ""}


def _text(path: Path, content_type: str, name: str, out: Path, policy: Policy) -> Path:
    body = path.read_bytes()
    if content_type == HL7V2:
        body = body.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    made, _ = deidentify(body, content_type, policy)
    number = policy.pseudonyms.uuid(f"file {name}")  # a file's name may name the patient
    target = out / f"{number}{path.suffix}"
    target.write_bytes(made)
    return target


def _instance(path: Path, out: Path, policy: Policy) -> Path:
    with tempfile.NamedTemporaryFile(dir=out, prefix=".", delete=False) as made:
        temporary = Path(made.name)
        try:
            with path.open("rb") as file:
                uid = deidentify_file(file, made.write, DICOM, policy, out)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    target = out / f"{uid or temporary.name.lstrip('.')}.dcm"
    temporary.chmod(0o644)
    return temporary.replace(target)


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    return result["file"], "quarantined" if result["reason"] else result["out"], result["attribute"], result["reason"]
