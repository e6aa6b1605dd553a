"""Exports of the landing schema, read by programs that are not ours: pyarrow, and DuckDB with SQL over the files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as parquet
import pytest
from sqlalchemy.engine import URL

from adapters.database.landing.export import Request, export
from adapters.database.landing.export import exporting as exporting_module
from engine.errors import ConfigError
from tests.support.cli import Said, meridian
from tests.support.landing import KINDS, Landing, at, database


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[URL]:
    with database(request.param) as made:
        yield made


@pytest.fixture
def landing(url: URL) -> Iterator[Landing]:
    """The tables, emptied."""
    with Landing(url) as made:
        made.land()
        made.empty()
        yield made


def observations(first: int, count: int, value: str = "1.50") -> bytes:
    """One Bundle of so many results."""
    entries = (
        f'{{"request":{{"method":"PUT","url":"Observation/o{n}"}},"resource":{{"resourceType":"Observation","id":"o{n}","status":"final",'
        f'"code":{{"text":"林 {n}"}},"effectiveDateTime":"2026-11-02T08:30:00+08:00","valueQuantity":{{"value":{value}}},'
        f'"component":[{{"valueInteger":{n}}},{{"valueInteger":{-n}}}]}}}}'
        for n in range(first, first + count)
    )
    return f'{{"resourceType":"Bundle","type":"transaction","entry":[{",".join(entries)}]}}'.encode()


def run(landing: Landing, to: Path, form: str = "parquet", *tables: str, **more: Any) -> Any:
    return export(landing.engine, landing.schema, Request(to, form, tables or ("observation", "observation_component"), **more))


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def summed(folder: Path) -> bool:
    """As whoever receives the files would look."""
    return subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=folder, check=False).returncode == 0


def test_what_is_exported_is_what_is_there(landing: Landing, tmp_path: Path) -> None:
    """Types, exact decimals, moments and every row, by pyarrow; joined and counted by DuckDB."""
    landing.land(observations(1, 20), observations(21, 1, "0.000000000012"), observations(22, 1, "1e-30"))
    run(landing, tmp_path)
    (file,) = tmp_path.glob("observation/*.parquet")
    table = parquet.read_table(file)
    assert table.num_rows == 22
    schema = {field.name: str(field.type) for field in table.schema}
    wanted = {
        "seq": "int64",
        "deleted": "bool",
        "value": "decimal128(38, 12)",
        "value_text": "string",
        "effective_from": "timestamp[us, tz=UTC]",
    }
    assert {name: schema[name] for name in wanted} == wanted
    rows = {row["id"]: row for row in table.to_pylist()}
    assert [(rows[name]["value"], rows[name]["value_text"]) for name in ("o1", "o21", "o22")] == [
        (Decimal("1.500000000000"), "1.50"), (Decimal("0.000000000012"), "0.000000000012"), (None, "1e-30"),
    ]  # fmt: skip
    assert rows["o1"]["effective_from"] == at("2026-11-02T08:30:00+08:00")
    assert json.loads(rows["o1"]["content"])["code"] == {"text": "林 1"}
    assert sorted((row["id"], row["seq"]) for row in table.to_pylist()) == sorted(landing.rows("observation", "id", "seq"))
    with duckdb.connect() as duck:
        sql = f"""SELECT count(*), sum(o.value), max(c.value_integer) FROM '{tmp_path}/observation/*.parquet' o
                  JOIN '{tmp_path}/observation_component/*.parquet' c ON c.resource_id = o.id AND c.version = o.version"""
        (found,) = duck.execute(sql).fetchall()
    assert found == (44, 2 * (20 * Decimal("1.5") + Decimal("0.000000000012")), 22)
    columns = json.loads((tmp_path / "observation/schema.json").read_text())
    assert [column["column"] for column in columns] == table.schema.names
    assert all(column["meaning"] for column in columns)
    assert summed(tmp_path)


def test_it_is_incremental(landing: Landing, tmp_path: Path) -> None:
    """Each run has what changed since: the rows with the highest seq are what is there now."""
    landing.land(observations(1, 10))
    first = run(landing, tmp_path)
    assert [(file.name, file.rows) for file in first.files] == [
        ("observation/observation-000000000001-000000000011.parquet", 10),
        ("observation_component/observation_component-000000000001-000000000011.parquet", 20),
    ]
    assert run(landing, tmp_path).files == []
    landing.land(observations(5, 2, "7"), b'{"resourceType":"Patient"}', first=50)
    landing.land(
        b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Observation/o1"}}]}', first=60
    )
    second = run(landing, tmp_path)
    assert [(file.name, file.rows) for file in second.files] == [
        ("observation/observation-000000000012-000000000018.parquet", 3),
        ("observation_component/observation_component-000000000012-000000000018.parquet", 4),
    ]
    with duckdb.connect() as duck:
        current = f"""SELECT id, value, deleted FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY seq DESC) AS place
                      FROM '{tmp_path}/observation/*.parquet') WHERE place = 1 AND NOT deleted ORDER BY id"""
        found = {name: value for name, value, _ in duck.execute(current).fetchall()}
    assert found == {f"o{n}": Decimal(7 if n in (5, 6) else Decimal("1.5")) for n in range(2, 11)}
    assert summed(tmp_path)


def test_lines_of_json_have_every_digit(landing: Landing, tmp_path: Path) -> None:
    landing.land(observations(1, 2, "0.12345678901234567890123"))
    run(landing, tmp_path, "ndjson")
    (file,) = tmp_path.glob("observation/*.ndjson")
    lines = file.read_text().splitlines()
    assert len(lines) == 2
    assert '"value":0.12345678901234567890123,' in lines[0]
    row = json.loads(lines[0])
    assert (row["effective_from"], row["content"]["code"]["text"]) == ("2026-11-02T00:30:00.000000Z", "林 1")
    with duckdb.connect() as duck:
        assert duck.execute(f"SELECT count(*), min(value_text) FROM '{file}'").fetchall() == [(2, "0.12345678901234567890123")]


def test_files_are_parted_between_resources(landing: Landing, tmp_path: Path) -> None:
    """As many rows as a file may have, but the rows of one resource stay together; names follow from the content."""
    landing.land(observations(1, 7))
    done = run(landing, tmp_path / "a", "parquet", "observation_component", rows=3)
    assert [(file.rows, file.rows_from, file.rows_to) for file in done.files] == [(4, 1, 3), (4, 4, 5), (4, 6, 7), (2, 8, 8)]
    run(landing, tmp_path / "b", "parquet", "observation_component", rows=3)
    data = [name for name in files(tmp_path / "a") if name != ".lock"]
    assert data == [name for name in files(tmp_path / "b") if name != ".lock"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in data)


@pytest.mark.parametrize("when", range(1, 9))
def test_an_interrupted_run_leaves_nothing_half(landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Killed at any renaming: what the manifest names is whole, and the next run makes good what is missing."""
    if landing.dialect != "sqlite":
        pytest.skip("the folder does not depend on the database")
    landing.land(observations(1, 3))
    run(landing, tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    landing.land(observations(4, 3), first=50)
    monkeypatch.setattr("os.replace", _dies_at(when))
    with pytest.raises(_KilledError):
        run(landing, tmp_path)
    monkeypatch.undo()
    known = json.loads((tmp_path / "manifest.json").read_text())
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert all((tmp_path / file["name"]).stat().st_size == file["size"] for file in known["files"])
    landing.land(observations(7, 2), first=60)
    run(landing, tmp_path)
    assert summed(tmp_path)
    named = {file["name"] for file in json.loads((tmp_path / "manifest.json").read_text())["files"]}
    assert {name for name in files(tmp_path) if name.endswith("parquet") or ".part" in name} == named
    ids = [row["id"] for file in sorted(tmp_path.glob("observation/*.parquet")) for row in parquet.read_table(file).to_pylist()]
    assert ids == [f"o{n}" for n in range(1, 9)]


class _KilledError(Exception):
    pass


def _dies_at(when: int) -> Callable[..., None]:
    import os

    real, count = os.replace, iter(range(1, 100))

    def replace(*names: Any) -> None:
        if next(count) == when % 7 + 1 if when > 6 else next(count) == when:
            raise _KilledError
        real(*names)

    return replace


def test_what_comes_while_it_runs_is_for_the_next_run(landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One snapshot for all tables: a resource that changes in between is in both runs, its parts as they were."""
    landing.land(observations(1, 5))
    real = exporting_module._table

    def table(*arguments: Any) -> Any:
        if arguments[2].name == "observation_component":
            with Landing(landing.engine.url) as other:
                other.land(observations(1, 6, "9"), first=70)
        return real(*arguments)

    monkeypatch.setattr(exporting_module, "_table", table)
    first = run(landing, tmp_path)
    monkeypatch.undo()
    assert [file.rows for file in first.files] == [5, 10]
    assert [file.rows for file in run(landing, tmp_path).files] == [6, 12]


def test_a_folder_keeps_what_it_is_of(landing: Landing, tmp_path: Path) -> None:
    """Another form, a state from before, another table, another run at the same time: each is refused with its reason."""
    landing.land(observations(1, 3))
    run(landing, tmp_path)
    with pytest.raises(ConfigError, match="another folder"):
        run(landing, tmp_path, "ndjson")
    with pytest.raises(ConfigError, match="new folder"):
        run(landing, tmp_path, since=2)
    with pytest.raises(ConfigError, match="no table nothing"):
        run(landing, tmp_path, "parquet", "nothing")
    with landing.engine.begin() as connection:
        connection.execute(landing.schema.state.update().values(value=1))
    with pytest.raises(ConfigError, match="another database"):
        run(landing, tmp_path)
    with landing.engine.begin() as connection:
        connection.execute(landing.schema.state.update().values(value=4))
    assert run(landing, tmp_path / "later", since=2).files[0].rows == 2


def test_the_command(
    url: URL, landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`meridian export` finds the site's destination, is audited, and says in JSON what it did."""
    landing.land(observations(1, 3))
    site = tmp_path / "site"
    (site / "channels").mkdir(parents=True)
    (site / "data").mkdir()
    (site / "meridian.yaml").write_text("name: site\nparty: site\n")
    written = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    schema = "\n      schema: fhir" if landing.schema.name else ""
    (site / "channels/c.yaml").write_text(
        f"name: c\nsource: {{mllp: {{listen: '127.0.0.1:2575'}}}}\nmap: hl7v2-to-fhir\ndestinations:\n"
        f"  - name: tables\n    fhir_tables:\n      connection: '{written}'{schema}\n"
    )
    command: Callable[..., Said] = meridian(monkeypatch, capfd)
    said = command("export", "observation", "landed_message", "--to", tmp_path / "out", "--site", site, "--json")
    assert said.code == 0, said.err
    done = json.loads(said.out)
    assert [(file["table"], file["rows"]) for file in done["files"]] == [("observation", 3), ("landed_message", 1)]
    assert summed(tmp_path / "out")
    audit = "".join(file.read_text() for file in (site / "data/audit").iterdir())
    assert "tables.exported" in audit
    everything = command("export", "--to", tmp_path / "all", "--site", site, "--format", "ndjson")
    assert (everything.code, "resource_version" in everything.out) == (0, True)
    wrong = command("export", "--to", tmp_path / "x", "--site", site, "--format", "csv")
    assert (wrong.code, "no format 'csv'" in wrong.err) == (2, True)
    elsewhere = command("export", "--to", tmp_path / "x", "--site", site, "--destination", "c/other")
    assert (elsewhere.code, "known: c/tables" in elsewhere.err) == (2, True)


def test_before_anything_was_landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It is said in these words, and to look makes no file of SQLite that the node would find later."""
    (tmp_path / "channels").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "meridian.yaml").write_text("name: site\nparty: site\n")
    (tmp_path / "channels/c.yaml").write_text(
        "name: c\nsource: {mllp: {listen: '127.0.0.1:2575'}}\nmap: hl7v2-to-fhir\ndestinations:\n"
        "  - {name: tables, fhir_tables: {connection: 'sqlite:///data/landed.db'}}\n"
    )
    command: Callable[..., Said] = meridian(monkeypatch, capfd)
    for option in ((), ("--forget",)):
        said = command("export", "--to", tmp_path / "out", "--site", tmp_path, *option)
        assert (said.code, "landed.db: nothing was landed yet" in said.err) == (2, True), said.err
    assert not (tmp_path / "data/landed.db").exists()
    (tmp_path / "data/landed.db").touch()
    assert "nothing was landed in this database yet" in command("export", "--to", tmp_path / "out", "--site", tmp_path).err
