"""``meridian bench``: measures this machine's node beside the machine's own limits. Loopback only; takes both cores while it runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from engine.bench import attachments as attachment_bench
from engine.bench import fhir as fhir_bench
from engine.bench import imaging
from engine.bench import limits as machine
from engine.bench import mapping as mapping_bench
from engine.bench import memory as memory_bench
from engine.bench.scenarios import ASTM, HIP, MLLP, SCENARIOS, SIGNED, Effort, Protocol, measure
from engine.cli.output import AS_JSON, print_json, print_table
from engine.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Measure this machine's node: rate, latency, CPU, memory. Runs against loopback only.")

FOLDER = typer.Option(
    None, "--folder", help="Where the stores are written; it must be on the disk to be measured. Default: a temporary folder."
)
SECONDS = typer.Option(5.0, "--seconds", min=0.1, help="How long each measurement lasts.")

WARM_UP = typer.Option(2.0, "--warm-up", min=0.0, help="Seconds of load before each measurement.")
MESSAGES = typer.Option(1 << 40, "--messages", "-n", min=1, help="Stop each load after so many messages.", show_default=False)
SCENARIO = typer.Option(list(SCENARIOS), "--scenario", help="ingest, pass-through, mapped; can be given several times.")
CONNECTIONS = typer.Option([1, 10, 50], "--connections", "-c", min=1, max=1000, help="Can be given several times.")


@app.command()
def mllp(
    scenario: list[str] = SCENARIO,
    connections: list[int] = CONNECTIONS,
    in_flight: int = typer.Option(1, "--in-flight", min=1, max=64, help="Messages under way on each connection."),
    seconds: float = SECONDS,
    warm_up: float = WARM_UP,
    messages: int = MESSAGES,
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """HL7 v2 in: ingest only, passed through, mapped to FHIR; each durable. Exit code 1 where anything was not delivered exactly once."""
    _run(MLLP, scenario, Effort(connections, in_flight, seconds, warm_up, messages), folder, as_json)


@app.command()
def astm(
    scenario: list[str] = typer.Option(list(ASTM.scenarios), "--scenario", help="ingest, mapped; can be given several times."),
    connections: list[int] = typer.Option([1, 10, 200], "--connections", "-c", min=1, max=1000, help="Can be given several times."),
    seconds: float = SECONDS,
    warm_up: float = WARM_UP,
    messages: int = MESSAGES,
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Laboratory instruments: ASTM transfers of seven frames, kept, or mapped to FHIR. Latency is of the last frame's ACK. Exit code 1
    where anything was not delivered exactly once."""
    _run(ASTM, scenario, Effort(connections, 1, seconds, warm_up, messages), folder, as_json)


@app.command()
def soap(
    scenario: list[str] = typer.Option(list(HIP.scenarios), "--scenario", help="ingest, mapped, signed; can be given several times."),
    connections: list[int] = CONNECTIONS,
    attachments: bool = typer.Option(True, help="Attachments of 100 MB besides."),
    seconds: float = SECONDS,
    warm_up: float = WARM_UP,
    messages: int = MESSAGES,
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Web services: calls of HIPMessageServer kept, mapped to FHIR, or signed and verified; attachments taken and sent on. Exit code 1
    where anything was not delivered exactly once."""
    _run(HIP, scenario, Effort(connections, 1, seconds, warm_up, messages), folder, as_json, attachments=attachments)


@app.command()
def fhir(
    connections: list[int] = typer.Option([1000], "--connections", "-c", min=1, max=10_000, help="Terminals. Can be given several times."),
    tls: bool = typer.Option(False, "--tls", help="Creates over mutual TLS."),
    hostile: int = typer.Option(20, "--hostile", min=1, max=1000, help="How many of each kind: dripping, half open, deaf."),
    lines: int = typer.Option(20_000, "--lines", min=4, help="Lines of each measurement of uploads."),
    seconds: float = SECONDS,
    warm_up: float = WARM_UP,
    messages: int = MESSAGES,
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Terminals: FHIR creates over many connections, alone and beside slow, half dead and hostile ones; uploads of lines. Exit code 1
    where anything was not kept exactly once."""
    wanted = fhir_bench.Wanted(Effort(connections, 1, seconds, warm_up, messages), hostile, lines, tls)
    fhir_bench.room_for(max(connections) + 4 * hostile)
    with _folder(folder) as scratch:
        report: dict[str, Any] = {
            "machine": _machine(scratch),
            "protocol": fhir_bench.FHIR.name,
            "limits": machine.measure(scratch, connections, min(seconds, 2.0), fhir_bench.FHIR.echo, fhir_bench.FHIR.echo_generator),
            **fhir_bench.measure(scratch, wanted),
        }
    for result in report["results"]:
        result["ratio"] = machine.ratios(result["acknowledged_per_second"], result["connections"], report["limits"])
    if as_json:
        print_json(report)
    else:
        _print(report)
        _print_uploads(report["uploads"])
    raise typer.Exit(0 if all(result["exactly_once"] for result in [*report["results"], *report["uploads"]]) else 1)


def _print_uploads(results: list[dict[str, Any]]) -> None:
    names = ("terminals", "lines", "megabytes", "lines_per_second", "again_per_second", "node_rss_mb")
    rows = [(*(one[name] for name in names), "yes" if one["exactly_once"] else "NO") for one in results]
    print_table("uploads of lines", ("terminals#", "lines#", "MB#", "lines/s#", "again, lines/s#", "RSS MB#", "exactly once"), rows)


def _run(protocol: Protocol, scenario: list[str], effort: Effort, folder: Path | None, as_json: bool, *, attachments: bool = False) -> None:
    unknown = [name for name in scenario if name not in protocol.scenarios]
    if unknown:
        raise ConfigError(f"there is no scenario {unknown[0]!r}; allowed: {', '.join(protocol.scenarios)}")
    with _folder(folder) as scratch:
        report: dict[str, Any] = {
            "machine": _machine(scratch),
            "protocol": protocol.name,
            "processes": "node, load generator and sink: one process each (the node's workers besides), all on this machine",
            "limits": machine.measure(scratch, effort.connections, min(effort.seconds, 2.0), protocol.echo, protocol.echo_generator),
            "results": [result for name in scenario for result in measure(name, _effort(name, effort), scratch, protocol)],
        }
        if attachments:
            report["attachments"] = attachment_bench.measure(scratch)
    for result in report["results"]:
        rate = result.get("delivered_per_second", result["acknowledged_per_second"])
        result["ratio"] = machine.ratios(rate, result["connections"], report["limits"])
    if as_json:
        print_json(report)
    else:
        _print(report)
    results = [*report["results"], *report.get("attachments", ())]
    raise typer.Exit(0 if all(result["exactly_once"] for result in results) else 1)


def _effort(scenario: str, effort: Effort) -> Effort:
    """Of signatures one measurement says enough: in the middle of the numbers of connections."""
    middle = sorted(effort.connections)[len(effort.connections) // 2]
    return replace(effort, connections=[middle]) if scenario == SIGNED else effort


@app.command()
def dicom(
    kind: list[str] = typer.Option(list(imaging.KINDS), "--kind", help="ct (0.5 MB), multi-frame (100 MB); can be given several times."),
    associations: list[int] = typer.Option([1, 8], "--associations", "-a", min=1, max=64, help="Can be given several times."),
    seconds: float = SECONDS,
    warm_up: float = typer.Option(1.0, "--warm-up", min=0.0, help="Seconds of load before each measurement."),
    messages: int = MESSAGES,
    alone: bool = typer.Option(False, "--alone", help="Without dcmtk storescp and Orthanc, also where they are installed."),
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """DICOM instances received durably, and forwarded, beside dcmtk storescp and Orthanc in the same run. Exit code 1 where this node
    did not take, or deliver, all."""
    unknown = [one for one in kind if one not in imaging.KINDS]
    if unknown:
        raise ConfigError(f"there is no kind {unknown[0]!r}; allowed: {', '.join(imaging.KINDS)}")
    with _folder(folder) as scratch:
        results = imaging.measure(kind, associations, seconds, warm_up, scratch, messages, not alone)
        report = {"machine": _machine(scratch), "results": results}
    if as_json:
        print_json(report)
    else:
        _print_received(report)
    raise typer.Exit(0 if all(result["all_taken"] for result in results if result["receiver"] in (imaging.NODE, imaging.FORWARDING)) else 1)


@app.command()
def database(
    count: int = typer.Option(10_000, "--count", "-n", min=10, help="Rows of each measurement."),
    rows: int = typer.Option(0, "--rows", min=0, help="The long run besides: so many rows by writers that commit late. Needs a server."),
    url: str = typer.Option(
        "", envvar="MERIDIAN_TEST_POSTGRESQL", help="A PostgreSQL or MariaDB where a database may be made, without a password."
    ),
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Databases: rows read, copied, landed as FHIR, on SQLite and on a server, beside the bare database in the same run. Exit code 1
    where a row was not there exactly once."""
    from engine.bench import databases

    server = databases.server(url) if url else None
    if rows and server is None:
        raise ConfigError("--rows needs a server: say --url; SQLite has one writer at a time, so nothing commits late there")
    with _folder(folder) as scratch:
        found = [databases.measure(scratch, count, one) for one in ((None,) if server is None else (None, server))]
        report: dict[str, Any] = {"machine": _machine(scratch), "databases": found}
        if rows and server is not None:
            report["late_rows"] = databases.late_rows(scratch, server, rows)
    if as_json:
        print_json(report)
    else:
        _print_databases(report)
    results = [result for one in report["databases"] for result in one["results"]]
    raise typer.Exit(0 if all(one["exactly_once"] for one in [*results, report.get("late_rows", results[0])]) else 1)


def _print_databases(report: dict[str, Any]) -> None:
    columns = ("database", "scenario", "rows/s#", "CPU ms/row#", "RSS MB#", "of executemany#", "of COPY or bulk#", "exactly once")
    names = ("scenario", "rows_per_second", "cpu_ms_per_row", "node_rss_mb")
    for one in report["databases"]:
        bare = ", ".join(f"{name} {rate}" for name, rate in one["bare"].items())
        typer.echo(f"bare {one['database']}, rows/s: {bare}")
    rows = [
        (
            *(one["database"], *(result[name] for name in names)),
            *(result["ratio"]["executemany"], result["ratio"].get("copy", ""), "yes" if result["exactly_once"] else "NO"),
        )
        for one in report["databases"]
        for result in one["results"]
    ]
    print_table(f"rows through this node, durable ({report['machine']['file_system']})", columns, rows)
    if late := report.get("late_rows"):
        said = "each exactly once" if late["exactly_once"] else "NOT each exactly once"
        typer.echo(f"{late['rows']} rows that commit late, {late['rows_per_second']} rows/s: {said}")


def _print_received(report: dict[str, Any]) -> None:
    columns = (
        "receiver",
        "instance",
        "assoc.#",
        "per s#",
        "delivered#",
        "MB/s#",
        "p50 ms#",
        "p99 ms#",
        "CPU ms#",
        "RSS MB#",
        "we ÷ it#",
        "durable",
    )
    names = (
        "receiver",
        "kind",
        "associations",
        "per_second",
        "delivered_per_second",
        "mb_per_second",
        "p50_ms",
        "p99_ms",
        "cpu_ms_per_instance",
        "rss_mb",
        "ratio",
    )
    rows = [(*(result.get(name, "") for name in names), result["durable"]) for result in report["results"]]
    print_table(f"DICOM received ({report['machine']['file_system']})", columns, rows)


@app.command()
def memory(
    messages: int = typer.Option(1_000_000, "--messages", "-n", min=10, help="How many to queue while the destination is down."),
    folder: Path = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Memory with a long queue, the time from a start to listening with it, and how long searches take. Exit code 1 over a limit."""
    with _folder(folder) as scratch:
        report = {"machine": _machine(scratch), **memory_bench.measure(scratch, messages)}
    if as_json:
        print_json(report)
        raise typer.Exit(1 if report["missed"] else 0)
    print_table(
        "memory while the destination is down", ("queued#", "RSS MB#"), [(step["queued"], step["rss_mb"]) for step in report["rss_mb"]]
    )
    typer.echo(f"from start to ready: {report['empty_start_seconds']} s empty, {report['full_start_seconds']} s with {messages} queued")
    typer.echo(f"RSS after that start: {report['full_start_rss_mb']} MB")
    _print_lookups(report["lookups"], report["messages"])
    for text in report["missed"]:
        typer.echo(f"missed: {text}")
    raise typer.Exit(1 if report["missed"] else 0)


def _print_lookups(looks: dict[str, Any], messages: int) -> None:
    rows = [(f"search by {name}", took) for name, took in looks["search_ms"].items()]
    rows += [("queues", looks["queues_ms"]), ("ledger", looks["ledger_ms"])]
    rows += [(f"the whole command, by {name}", took) for name, took in looks["commands_ms"].items()]
    print_table(f"looks with {messages} messages", ("what", "ms#"), rows)


@app.command()
def mapping(seconds: float = SECONDS, as_json: bool = AS_JSON) -> None:
    """Mapping HL7 v2 to FHIR in one process: messages per second of one core."""
    report = mapping_bench.measure(seconds)
    if as_json:
        print_json(report)
        return
    rows = [(kind, one["per_second"], one["microseconds"], one["bytes_in"], one["bytes_out"]) for kind, one in report["kinds"].items()]
    print_table(report["mapping"], ("message", "per second#", "µs each#", "bytes in#", "bytes out#"), rows)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """A folder of our own below `given`, gone afterwards."""
    if given is not None and not given.is_dir():
        raise ConfigError(f"{given} is not a folder")
    with TemporaryDirectory(prefix="meridian-bench-", dir=given) as folder:
        yield Path(folder)


def _machine(folder: Path) -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "file_system": machine.file_system(folder)}


def _print(report: dict[str, Any]) -> None:
    limits = report["limits"]
    rows = [("echo, nothing kept", f"{count} connections", rate) for count, rate in limits["echo"].items()]
    rows += [("SQLite WAL FULL", f"{group} a transaction", rate) for group, rate in limits["sqlite"].items()]
    rows += [("append + fdatasync", f"{group} a sync", rate) for group, rate in limits["append"].items()]
    print_table(f"this machine's own limits ({report['machine']['file_system']})", ("what", "", "messages/s#"), rows)
    columns = ("scenario", "conn.#", "ack/s#", "delivered/s#", "p50 ms#", "p95 ms#", "p99 ms#", "CPU ms/msg#", "RSS MB#")
    names = ("p50_ms", "p95_ms", "p99_ms", "node_cpu_ms_per_message", "node_rss_mb")
    print_table(
        "this node, durable",
        (*columns, "of echo#", "of SQLite#", "exactly once"),
        [
            (
                *(result["scenario"], result["connections"], result["acknowledged_per_second"], result.get("delivered_per_second", "")),
                *(result[name] for name in names),
                *(result["ratio"]["echo"], result["ratio"]["sqlite"], "yes" if result["exactly_once"] else "NO"),
            )
            for result in report["results"]
        ],
    )
    if "attachments" in report:
        _print_attachments(report["attachments"])


def _print_attachments(results: list[dict[str, Any]]) -> None:
    names = ("direction", "megabytes", "mb_per_second", "rss_before_mb", "rss_mb")
    rows = [(*(one[name] for name in names), "yes" if one["exactly_once"] else "NO") for one in results]
    columns = ("direction", "MB each#", "MB/s#", "RSS MB before#", "RSS MB at most#", "exactly once")
    print_table("attachments (MTOM), one after the other", columns, rows)
