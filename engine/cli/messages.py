"""``meridian messages``: find, show, trace, resend."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

import typer

from engine.cli.audited import audited
from engine.cli.opened import with_store
from engine.cli.output import AS_JSON, SITE, local_time, print_json, print_table
from engine.errors import ConfigError
from engine.message import BodyRef, Status, as_received
from engine.store.contract import Found, Kept, Query, Step

app = typer.Typer(no_args_is_help=True, help="Find, show, trace and resend messages.")

_MOST_SHOWN: Final = 4000
"""Characters of what a destination answered."""
NUMBER = typer.Argument(help="The message's number, as search shows it.")


def _when(text: str) -> int:
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a time; write 2026-11-23 or 2026-11-23T08:15 (local) or with a zone") from None
    return int(moment.astimezone().timestamp() * 1e6)


@app.command()
def search(
    site: Path = SITE,
    control_id: str = typer.Option("", "--control-id", help="MSH-10, or the protocol's own message identifier."),
    patient: str = typer.Option("", "--patient", help="One of the patient's identifiers (PID-3.1)."),
    channel: str = typer.Option("", "--channel"),
    destination: str = typer.Option("", "--destination"),
    status: Status = typer.Option(None, "--status", case_sensitive=False, help="RECEIVED, FILTERED, QUEUED, PENDING, SENT or ERROR."),
    message_type: str = typer.Option("", "--type", help="Such as ADT^A01."),
    sender: str = typer.Option("", "--sender", help="Application and facility, as APP|FACILITY."),
    since: str = typer.Option("", "--since", help="Received at or after this time."),
    until: str = typer.Option("", "--until", help="Received before this time."),
    before: int = typer.Option(0, "--before", help="Only numbers below this one: the next page."),
    limit: int = typer.Option(50, "--limit", min=1, max=10_000),
    as_json: bool = AS_JSON,
) -> None:
    """Find messages, newest first. Exit code 1 when there is none."""
    query = Query(control_id, patient, channel, destination, status, message_type, sender, _when(since), _when(until), before, limit)
    if patient:  # who looked for a patient, never for whom: no identifier is in the audit log
        audited(site, "messages.searched", by="patient")
    found = with_store(site, lambda store: store.search(query))
    if as_json:
        print_json([asdict(line) for line in found])
    else:
        columns = ("number#", "received", "channel", "type", "control id", "sender", "status", "reason")
        print_table("1 message" if len(found) == 1 else f"{len(found)} messages", columns, [_row(line) for line in found])
    raise typer.Exit(0 if found else 1)


def _row(line: Found) -> tuple[object, ...]:
    at = local_time(line.received_at)
    return line.message_id, at, line.channel, line.message_type, line.control_id, line.sender, line.status, line.reason


def _kept(site: Path, number: int, part: str) -> Kept:
    """The message, once it is on disk who is about to see which part of it."""
    kept = with_store(site, lambda store: store.show(number))
    if kept is None:
        raise ConfigError(f"there is no message {number}; it may have been removed by the retention rule")
    audited(site, "messages.shown", message=number, channel=kept.found.channel, control_id=kept.found.control_id, part=part)
    return kept


@app.command()
def show(
    number: int = NUMBER, site: Path = SITE, raw: bool = typer.Option(False, help="Only the bytes, as received."), as_json: bool = AS_JSON
) -> None:
    """Show a message: what was known of it, what was answered, what became of it, and its content."""
    kept = _kept(site, number, "raw" if raw else "content")
    body = kept.envelope.body
    if raw:
        received = as_received(kept.envelope)
        typer.get_binary_stream("stdout").write(received if isinstance(received, bytes) else b"")
        return
    text = f"({body.size} bytes, SHA-256 {body.digest})" if isinstance(body, BodyRef) else _readable(body, kept.envelope.content_type)
    if as_json:
        print_json(
            {**asdict(kept.found), "answer": _readable(kept.answer, ""), "steps": [asdict(step) for step in kept.steps], "body": text}
        )
        return
    line = kept.found
    typer.echo(f"message {line.message_id}  {line.status}  {line.reason}".rstrip())
    typer.echo(f"{local_time(line.received_at)}  channel {line.channel}  from {kept.envelope.remote or '?'}  {line.peer}".rstrip())
    typer.echo(f"{line.message_type}  control id {line.control_id or '-'}  sender {line.sender or '-'}  {line.size} bytes\n")
    typer.echo(text)
    typer.echo(f"\nanswered: {kept.judgement.verdict} {kept.judgement.reason}".rstrip())
    typer.echo(_readable(kept.answer, kept.envelope.content_type))
    _print_steps(kept.steps)
    for step in kept.steps:
        if step.status is Status.ERROR and step.answer:
            typer.echo(f"\n{step.destination} answered:\n{_readable(step.answer, '')[:_MOST_SHOWN]}")


def _readable(body: bytes, content_type: str) -> str:
    """Text for a person: the declared character set where the format has one, one segment a line."""
    if content_type.startswith("application/hl7-v2"):
        from engine.errors import ParseError
        from engine.formats import hl7v2

        try:
            return "\n".join(segment.text for segment in hl7v2.decode(body).segments)
        except ParseError:
            pass
    return body.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\r", "\n")


@app.command()
def trace(number: int = NUMBER, site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Show a message's life, step by step."""
    kept = _kept(site, number, "steps")
    if as_json:
        print_json([asdict(step) for step in kept.steps])
    else:
        _print_steps(kept.steps)


def _print_steps(steps: tuple[Step, ...]) -> None:
    rows = [(local_time(s.at), s.status, s.destination, s.attempts or "", s.reference, s.reason) for s in steps]
    print_table("steps", ("time", "status", "destination", "attempts#", "reference", "reason"), rows)


@app.command()
def resend(
    numbers: list[int] = typer.Argument(help="Message numbers."),
    site: Path = SITE,
    destination: str = typer.Option("", help="Only this destination."),
    reprocess: bool = typer.Option(False, "--reprocess", help="Decode, route and map again from the bytes as received."),
    as_json: bool = AS_JSON,
) -> None:
    """Queue messages again. A running node takes them up within a second."""
    audited(site, "messages.resent", messages=" ".join(map(str, numbers)), destination=destination, reprocess=reprocess)
    count = with_store(site, lambda store: store.reprocess(numbers) if reprocess else store.resend(numbers, destination))
    if as_json:
        print_json({"queued": count})
    else:
        typer.echo(f"{count} queued again")
    raise typer.Exit(0 if count else 1)
