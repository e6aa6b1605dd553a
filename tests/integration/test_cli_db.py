"""`meridian db check` and `meridian db preview` on real databases: what they find, what they leave alone, what they do not show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import audit
from engine.bench.late_rows import LateRows
from engine.bench.node import Node
from tests.support.cli import Said
from tests.support.cli import meridian as _meridian
from tests.support.databases import SERVERS, engine_of, own_database, written
from tests.support.waiting import until

meridian = pytest.fixture(_meridian)


@pytest.fixture(params=[*SERVERS, "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lis.db'}"
        return
    with own_database(request.param) as made:
        yield made


def run(url: Any, *statements: str) -> list[Any]:
    engine = engine_of(url)
    found: list[Any] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            found = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return found


def site(folder: Path, url: Any, **source: Any) -> Path:
    (folder / "channels").mkdir(parents=True, exist_ok=True)
    (folder / "meridian.yaml").write_text(json.dumps({"name": "site", "party": "site"}))
    options = {"connection": {"url": written(url), "connect_timeout": "20s"}, **source}
    (folder / "channels" / "lis.yaml").write_text(json.dumps({"name": "lis", "source": {"database": options}, "destinations": []}))
    return folder


def findings(said: Said) -> dict[str, tuple[str, str]]:
    return {one["what"]: (one["state"], one["text"]) for one in json.loads(said.out)}


TABLE = "CREATE TABLE result (id integer PRIMARY KEY, changed timestamp NOT NULL, note varchar(40))"
BASIC: dict[str, Any] = {"table": "result", "watermark": "changed", "zone": "UTC"}


def test_a_table_that_is_as_it_should_be(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Everything fine; exit code 0; the index is named once there are rows enough for the database to care."""
    run(url, TABLE, "CREATE INDEX result_changed ON result (changed, id)")
    said = meridian("db", "check", "--site", site(tmp_path, url, **BASIC), "--json")
    assert said.code == 0, said
    found = findings(said)
    assert {what for what, (state, _) in found.items() if state != "fine"} == set()
    assert found["reach"][1].startswith(("postgresql 1", "mysql ", "sqlite 3"))
    assert {"key", "index", "clock", "read"} <= set(found)
    human = meridian("db", "check", "lis", "--site", tmp_path)
    assert "told apart by id" in human.out


def test_what_is_missing(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """No index: a warning. No key, no table, no right to update: faults, and exit code 1."""
    run(url, TABLE, "CREATE TABLE keyless (a integer, changed timestamp)")
    said = meridian("db", "check", "--site", site(tmp_path, url, **BASIC), "--json")
    assert (said.code, findings(said)["index"][0]) == (0, "warning")
    said = meridian("db", "check", "--site", site(tmp_path, url, table="keyless", watermark="changed"), "--json")
    assert said.code == 1
    assert "no primary key" in findings(said)["table"][1]
    said = meridian("db", "check", "--site", site(tmp_path, url, table="nothing", watermark="changed"), "--json")
    assert said.code == 1
    status = {"column": "note", "new": ["N"], "done": "D"}
    said = meridian("db", "check", "--site", site(tmp_path, url, table="result", status=status), "--json")
    assert findings(said)["rights"][0] == "fine"
    view = meridian("db", "check", "nowhere", "--site", tmp_path)
    assert (view.code, "reads no database" in view.err) == (2, True)


def test_nobody_there(meridian: Callable[..., Said], tmp_path: Path) -> None:
    said = meridian("db", "check", "--site", site(tmp_path, "postgresql://postgres@127.0.0.1:9/x", **BASIC), "--json")
    assert said.code == 1
    assert findings(said)["reach"][0] == "fault"
    said = meridian("db", "preview", "lis", "--site", tmp_path)
    assert said.code == 2
    assert "Traceback" not in said.err


def test_preview_takes_nothing_and_shows_no_values(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Unless it is asked to, and then it is audited first."""
    run(url, TABLE, "INSERT INTO result VALUES (7, '2024-03-01 08:00:00', 'Zhang Wei')")
    site(tmp_path, url, **BASIC)
    for _ in range(2):
        said = meridian("db", "preview", "lis", "--site", tmp_path)
        assert said.code == 0, said
        assert "would take 1 rows" in said.out
        assert "Zhang" not in said.out
    assert not (tmp_path / "data").exists()
    said = meridian("db", "preview", "lis", "--site", tmp_path, "--values", "--json")
    assert json.loads(said.out)["records"][0]["row"]["note"] == "Zhang Wei"
    events = [(record.event, record.facts["rows"]) for record in audit.records(tmp_path / "data" / "audit")]
    assert events == [("database.previewed", "1")]
    run(url, "DELETE FROM result")
    assert meridian("db", "preview", "lis", "--site", tmp_path, "--json").code == 1


def test_preview_claims_nothing(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Of a table that is read by status."""
    run(
        url,
        "CREATE TABLE orders (id integer PRIMARY KEY, state char(1), at timestamp NULL)",
        "INSERT INTO orders (id, state) VALUES (1, 'N')",
    )
    status = {"column": "state", "new": ["N"], "claimed": "P", "claimed_at": "at", "done": "D"}
    said = meridian("db", "preview", "lis", "--site", site(tmp_path, url, table="orders", status=status), "--json")
    assert json.loads(said.out)["rows"] == 1
    assert run(url, "SELECT state FROM orders") == [("N",)]


def test_preview_of_what_comes_next(tmp_path: Path) -> None:
    """By the checkpoints in the store of the node that runs beside it: what was taken is not shown again."""
    with own_database("postgresql") as url:
        late = LateRows(tmp_path / "site", url)
        late.create()
        insert = (
            "INSERT INTO late_row (version, changed) SELECT 1, '2024-01-01'::timestamp + n * interval '1 s' FROM generate_series(1, 5) n"
        )
        run(url, insert)
        with Node(late.site):
            until(lambda: late.compare().kept == 5)
            command = [sys.executable, "-m", "engine", "db", "preview", "late", "--site", str(tmp_path / "site"), "--json"]
            done = subprocess.run(command, capture_output=True, check=False)
        late.engine.dispose()
    assert done.returncode == 1, done
    assert json.loads(done.stdout)["rows"] == 0


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"port": 1}, "out of reach: nobody listens at that address"),
        ({"host": "no-such-host.invalid"}, "out of reach: there is no such host"),
        ({"database": "no_such_database"}, "there is no such database"),
    ],
)
def test_a_mistaken_address_is_named(meridian: Callable[..., Said], server: str, tmp_path: Path, wrong: Any, text: str) -> None:
    """Each mistake in its own words, whichever database it is; exit code 1."""
    with own_database(server) as made:
        said = meridian("db", "check", "--site", site(tmp_path, made.set(**wrong), **BASIC), "--json")
    assert said.code == 1
    state, found = findings(said)["reach"]
    assert state == "fault"
    assert text in found
