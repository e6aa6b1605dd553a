"""The command line. Each command has --json, exit codes that mean something, and shows no traceback for a user's error.

Exit codes: 0 fine; 1 what was asked has a negative answer (faults found, a ledger that does not close, a file that could not
be converted); 2 the command could not be carried out as it was given.
"""

from __future__ import annotations

import os
import sys

import typer

from engine import __version__, registry
from engine.errors import MeridianError


def main() -> None:
    """Entry point of ``meridian`` and of ``python -m engine``."""
    app = build()
    try:
        app()
    except MeridianError as error:
        sys.stderr.write(f"meridian: {error}\n")
        sys.exit(2)
    except ModuleNotFoundError as error:  # the bench and the demo need what a site may go without
        package = (error.name or "").partition(".")[0]
        if not registry.extra_of(package):
            raise
        sys.stderr.write(f"meridian: this needs the package {package!r}: pip install 'meridian[{registry.extra_of(package)}]'\n")
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # a file or folder of the user's that no command has looked at more closely
        sys.stderr.write(f"meridian: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def build() -> typer.Typer:
    """The whole command tree."""
    from engine.cli import (
        audit,
        bench,
        certs,
        check,
        convert,
        db,
        deidentify,
        demo,
        doctor,
        export,
        init,
        ledger,
        messages,
        parties,
        queue,
        run,
        schema,
        send,
        test,
    )

    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=_HELP)
    for name, module in {
        "init": init,
        "check": check,
        "doctor": doctor,
        "test": test,
        "run": run,
        "demo": demo,
        "convert": convert,
        "deidentify": deidentify,
        "send": send,
        "export": export,
        "ledger": ledger,
        "schema": schema,
    }.items():
        app.command(name)(module.command)
    groups = {"messages": messages, "queue": queue, "parties": parties, "certs": certs, "audit": audit, "bench": bench, "db": db}
    for name, group in groups.items():
        app.add_typer(group.app, name=name)
    app.callback()(_version)
    return app


_HELP = "Meridian, the healthcare integration engine: receives, keeps, maps to FHIR R4, delivers, and proves it."


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"meridian {__version__}")
        raise typer.Exit


def _version(version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version.")) -> None:
    pass
