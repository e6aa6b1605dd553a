"""What the landing schema forgets: old versions and the book of messages, in small steps, and never what an export has not passed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import URL

from adapters.database.landing import retention
from adapters.database.landing.export import Request, export
from adapters.database.landing.migration import views
from adapters.database.landing.options import DESTINATION
from adapters.database.landing.retention import Retention, forget
from engine.message import Receipt
from tests.support.cli import Said, meridian
from tests.support.landing import KINDS, NOON, Landing, database
from tests.support.sites import Site

meridian = pytest.fixture(meridian)
LATER = datetime.fromtimestamp(NOON / 1e6, UTC) + timedelta(days=400)
YEAR = {"versions": "365d", "messages": "365d"}


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[URL]:
    with database(request.param) as made:
        yield made


@pytest.fixture
def landing(url: URL) -> Iterator[Landing]:
    """Three versions of two results and one that was deleted, in six messages and ten versions; nothing noted."""
    with Landing(url) as made:
        made.land()
        made.empty()
        with made.engine.begin() as connection:
            connection.execute(made.schema.state.delete().where(made.schema.state.c.name != "sequence"))
        values = [["1", "2"], ["3", "2"], ["5", "6"], ["5", "7"]]
        bodies = [bundle(*(put(f"o{n}", value) for n, value in enumerate(pair))) for pair in values]
        bodies += [bundle(put("gone", "1")), bundle({"request": {"method": "DELETE", "url": "Observation/gone"}})]
        assert all(isinstance(one, Receipt) for one in made.land(*bodies))
        yield made


def put(name: str, value: str) -> dict[str, Any]:
    resource = {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "K"}, "valueString": value}
    subject = {"subject": {"identifier": {"value": "P"}, "reference": "Patient/p"}}
    return {"request": {"method": "PUT", "url": f"Observation/{name}"}, "resource": {**resource, **subject}}


def bundle(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}).encode()


def forgets(landing: Landing, now: datetime = LATER, **keep: Any) -> int:
    """A run to its end; gives the number of steps."""
    settings = DESTINATION.defaults(connection="sqlite:///x.db", keep=keep).keep
    running, steps = Retention(landing.schema, settings), 0
    while running.step(landing.engine, now):
        steps += 1
    return steps


def versions(landing: Landing) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, version in landing.rows("resource_version", "id", "version"):
        found.setdefault(name, []).append(version)
    return found


def shown(landing: Landing) -> dict[str, Any]:
    """Everything that shows resources as they are now: their tables, and every view but that of the days."""
    books = ("landing_migration", "landing_state", "landed_message", "resource_version")
    found: dict[str, Any] = {
        table.name: landing.rows(table.name) for table in landing.schema.metadata.sorted_tables if table.name not in books
    }
    prefix = f"{landing.schema.name}." if landing.schema.name else ""
    with landing.engine.connect() as connection:
        for name, _, _ in views():
            rows = connection.execute(text(f"SELECT * FROM {prefix}{name}")).all()
            found.update({} if name == "v_daily" else {name: sorted(map(str, rows))})
    return found


def test_what_is_now_stays(landing: Landing) -> None:
    """Old versions and messages go; resources, their tables and the views are what they were; numbers go on; landing goes on."""
    before, all_versions = shown(landing), versions(landing)
    assert all_versions == {"o0": [1, 2, 3], "o1": [1, 2, 3], "gone": [1, 2]}
    assert forgets(landing, LATER - timedelta(days=399), **YEAR, without_export=True) >= 1
    assert (versions(landing), len(landing.rows("landed_message"))) == (all_versions, 6), "nothing is old yet"
    forgets(landing, **YEAR, without_export=True)
    assert versions(landing) == {"o0": [3], "o1": [3], "gone": [2]}
    assert landing.rows("landed_message") == []
    assert shown(landing) == before
    (clock,) = landing.rows("landing_state", "value", name="sequence")
    (again, new) = landing.land(bundle(put("o1", "7")), bundle(put("o0", "9")), first=4)
    assert [json.loads(one.answer) for one in (again, new)] == [
        {"landing": clock + 1, "created": 0, "updated": 0, "deleted": 0, "unchanged": 1},
        {"landing": clock + 2, "created": 0, "updated": 1, "deleted": 0, "unchanged": 0},
    ]
    assert versions(landing)["o0"] == [3, 4]


def test_each_by_its_own_rule(landing: Landing) -> None:
    """Versions alone, or messages alone."""
    forgets(landing, versions="30d", without_export=True)
    assert (versions(landing), len(landing.rows("landed_message"))) == ({"o0": [3], "o1": [3], "gone": [2]}, 6)
    forgets(landing, messages="30d", without_export=True)
    assert landing.rows("landed_message") == []


def test_in_small_steps(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is a transaction of its own that looks at so many sequence numbers; a run that was cut off begins again and ends the same."""
    monkeypatch.setattr(retention, "STEP", 2)
    (clock,) = landing.rows("landing_state", "value", name="sequence")
    settings = DESTINATION.defaults(connection="sqlite:///x.db", keep={**YEAR, "without_export": True}).keep
    cut = Retention(landing.schema, settings)
    assert cut.step(landing.engine, LATER)
    assert versions(landing) == {"o0": [2, 3], "o1": [1, 2, 3], "gone": [1, 2]}
    assert len(landing.rows("landed_message")) == 5
    assert (clock - 2) // 2 <= forgets(landing, **YEAR, without_export=True) <= clock
    assert versions(landing) == {"o0": [3], "o1": [3], "gone": [2]}


def test_what_no_export_has_passed_stays(landing: Landing, tmp_path: Path) -> None:
    """Without an export nothing goes; with two, what the slower one has; one that is begun anew, or forgotten, counts at once."""

    def to(folder: str, *tables: str) -> Any:
        return export(landing.engine, landing.schema, Request(tmp_path / folder, "ndjson", tables, noted=True))

    whole = versions(landing)
    forgets(landing, **YEAR)
    assert (versions(landing), len(landing.rows("landed_message"))) == (whole, 6)
    to("slow", "resource_version", "observation")
    landing.land(bundle(put("o0", "8")), bundle(put("o0", "9")), first=50)
    to("fast")
    forgets(landing, **YEAR)
    assert versions(landing) == {"o0": [4, 5], "o1": [3], "gone": [2]}, "the slow one has not come to version 4"
    assert landing.rows("landed_message") == [], "only the fast one has messages, and has all"
    to("slow", "observation")
    forgets(landing, **YEAR)
    assert versions(landing)["o0"] == [4, 5], "that run had no versions"
    to("slow", "resource_version")
    forgets(landing, **YEAR)
    assert versions(landing)["o0"] == [5]
    landing.land(bundle(put("o0", "10")), bundle(put("o0", "11")), first=60)
    to("fast")
    forgets(landing, **YEAR)
    assert versions(landing)["o0"] == [6, 7]
    with landing.engine.begin() as connection:
        assert forget(connection, landing.schema, str((tmp_path / "slow").resolve()))
        assert not forget(connection, landing.schema, str((tmp_path / "slow").resolve()))
    forgets(landing, **YEAR)
    assert versions(landing)["o0"] == [7], "nothing waits for what is no more"


def test_a_folder_that_is_new_is_noted_before_it_is_read(landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted while its first export runs would be missing from it."""
    export(landing.engine, landing.schema, Request(tmp_path / "old", "ndjson", noted=True))
    noted: list[dict[str, int]] = []

    def look(*_: object) -> str:
        with landing.engine.connect() as connection:
            noted.append(retention.passed_by(connection, landing.schema, landing.schema.versions))
        return "database"

    monkeypatch.setattr("adapters.database.landing.export.exporting._identity", look)
    if landing.dialect == "sqlite":  # its reader sees the snapshot
        landing.engine.dispose()
    export(landing.engine, landing.schema, Request(tmp_path / "new", "ndjson", noted=True))
    assert sorted(noted[0].values())[0] == 0
    with landing.engine.connect() as connection:
        (clock,) = landing.rows("landing_state", "value", name="sequence")
        assert set(retention.passed_by(connection, landing.schema, landing.schema.versions).values()) == {clock}


def test_long_names_of_folders_are_told_apart(landing: Landing) -> None:
    """landing_state has 64 characters for a name."""
    folders = [f"/srv/{'exports/' * 12}{name}" for name in ("a", "b")] + [f"/{name}/{'exports/' * 12}" for name in ("a", "b")]
    with landing.engine.begin() as connection:
        for number, folder in enumerate(folders):
            retention.note(connection, landing.schema, folder, {"resource_version": number})
            retention.note(connection, landing.schema, folder, {"resource_version": number, "landed_message": 7})
        assert sorted(retention.passed_by(connection, landing.schema, landing.schema.versions).values()) == [0, 1, 2, 3]
        longest = connection.execute(select(func.max(func.length(landing.schema.state.c.name)))).scalar_one()
        assert int(longest) <= 70, "in bytes"
        for folder in folders:
            assert forget(connection, landing.schema, folder)


def test_the_commands(meridian: Callable[..., Said], tmp_path: Path) -> None:
    """`export` notes how far it has come where something is deleted; `db check` says what is waited for; `--forget` ends that."""
    destination = {"name": "tables", "fhir_tables": {"connection": "sqlite:///landed.db", "keep": YEAR}}
    site = Site(tmp_path / "site", map="hl7v2-to-fhir", destinations=[destination])
    (site.folder / "data").mkdir()
    with Landing(URL.create("sqlite", database=str(site.folder / "landed.db"))) as landing:
        landing.land(bundle(put("o0", "1")))
    at = ("--site", site.folder)

    def kept() -> list[tuple[str, str]]:
        found = json.loads(meridian("db", "check", *at, "--json").out)
        return [(one["state"], one["text"]) for one in found if one["what"] == "keep"]

    assert [state for state, _ in kept()] == ["warning", "warning"]
    assert meridian("export", "--to", tmp_path / "out", "--format", "ndjson", *at).code == 0
    assert [(state, str(tmp_path / "out")[-20:] in said) for state, said in kept()] == [("fine", True)] * 2
    assert meridian("export", "--to", tmp_path / "out", "--forget", *at).code == 0
    assert [state for state, _ in kept()] == ["warning", "warning"]
    again = meridian("export", "--to", tmp_path / "out", "--forget", *at)
    assert (again.code, "has noted anything" in again.err) == (2, True)
