"""`meridian db check` of destinations on real databases: each fault is found, what it says helps, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from tests.support.cli import Said
from tests.support.cli import meridian as _meridian
from tests.support.databases import SERVERS, engine_of, own_database, written
from tests.support.landing import Landing, options

meridian = pytest.fixture(_meridian)
KINDS = (*SERVERS, "sqlite")
TABLE = "CREATE TABLE result (source varchar(20) NOT NULL, no integer NOT NULL, value varchar(40), PRIMARY KEY (source, no))"
OUTBOX = (
    "CREATE TABLE meridian_outbox (digest varchar(64) NOT NULL, destination varchar(190) NOT NULL, applied_at timestamp NOT NULL, "
    "answer {}, PRIMARY KEY (digest, destination))"
)
UPSERT = {"upsert": "result", "key": ["source", "no"], "with": {"source": "LIS", "no": {"value": "7", "type": "integer"}, "value": "5.1"}}
INSERT = {"run": "INSERT INTO result (source, no, value) VALUES (:source, :no, :value)", "with": UPSERT["with"]}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'archive.db'}"
        return
    with own_database(request.param) as made:
        yield made


def run(url: Any, *statements: str) -> list[Any]:
    engine = engine_of(url)
    found: list[Any] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement.replace("%", "%%"))
            found = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return found


def outbox(url: Any) -> str:
    kind = "sqlite" if isinstance(url, str) else url.get_backend_name()
    return OUTBOX.format({"postgresql": "bytea", "mysql": "longblob"}.get(kind, "blob"))


def site(folder: Path, adapter: str, **given: Any) -> Path:
    """One channel with one destination."""
    (folder / "channels").mkdir(parents=True, exist_ok=True)
    (folder / "meridian.yaml").write_text(json.dumps({"name": "site", "party": "site"}))
    destination = {"name": "archive", adapter: given}
    channel = {"name": "out", "source": {"mllp": {"listen": "127.0.0.1:9"}}, "destinations": [destination]}
    (folder / "channels" / "out.yaml").write_text(json.dumps(channel))
    return folder


def statements(folder: Path, url: Any, *statements: Any, **more: Any) -> Path:
    return site(folder, "database", connection={"url": written(url), "connect_timeout": "20s"}, statements=list(statements), **more)


def findings(said: Said) -> dict[str, tuple[str, str]]:
    """The worst of each kind."""
    found: dict[str, tuple[str, str]] = {}
    for one in json.loads(said.out):
        rank = ("fine", "warning", "fault")
        if one["what"] not in found or rank.index(one["state"]) > rank.index(found[one["what"]][0]):
            found[one["what"]] = (one["state"], one["text"])
    return found


@contextmanager
def user(url: URL, name: str = "meridian_writer") -> Iterator[URL]:
    """A user without any rights but to connect."""
    name = f"{name}_{url.database[-6:]}"  # type: ignore[index]
    mysql = url.get_backend_name() == "mysql"
    run(url, f"CREATE USER {name}@'%'" if mysql else f"CREATE ROLE {name} LOGIN")
    try:
        yield url.set(username=name)
    finally:
        run(url, *([f"DROP USER {name}@'%'"] if mysql else [f"DROP OWNED BY {name}", f"DROP ROLE {name}"]))


def granted(said: Said) -> list[str]:
    """The statements that --sql shows."""
    lines = said.out.split("\n-- ")[1:]
    return [one.partition("\n")[2].strip().rstrip(";") for one in lines]


def test_what_is_as_it_should_be(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Everything fine, exit code 0; no row has come into any table."""
    run(url, TABLE, outbox(url))
    said = meridian("db", "check", "--site", statements(tmp_path, url, UPSERT, INSERT, outbox={}), "--json")
    assert said.code == 0, said
    found = findings(said)
    assert {what for what, (state, _) in found.items() if state != "fine"} == set(), found
    assert {"reach", "outbox", "statement 1", "statement 2"} <= set(found)
    assert [one["destination"] for one in json.loads(said.out)] == ["archive"] * len(json.loads(said.out))
    assert run(url, "SELECT count(*) FROM result") == run(url, "SELECT count(*) FROM meridian_outbox") == [(0,)]
    assert "out/archive" in meridian("db", "check", "out", "--site", tmp_path).out


def test_what_is_missing_is_made_by_what_is_shown(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """No outbox and no unique index: two faults; once the statements of --sql were run by an administrator there is none."""
    run(url, "CREATE TABLE result (source varchar(20) NOT NULL, no integer NOT NULL, value varchar(40))")
    statements(tmp_path, url, UPSERT, outbox={})
    said = meridian("db", "check", "--site", tmp_path, "--json")
    found = findings(said)
    assert (said.code, found["outbox"][0], found["statement 1"][0]) == (1, "fault", "fault")
    assert "no table meridian_outbox" in found["outbox"][1]
    assert "no unique index of result is over source, no" in found["statement 1"][1]
    shown = meridian("db", "check", "--site", tmp_path, "--sql")
    assert shown.code == 1
    assert run(url, *(one for statement in granted(shown) for one in statement.split(";\n"))) == []
    said = meridian("db", "check", "--site", tmp_path, "--json")
    assert (said.code, findings(said)["outbox"][0]) == (0, "fine"), said


def test_tables_and_columns_that_are_not_there(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Of upserts and of statements; a column that must have a value; an outbox that is none. Each says what to correct."""
    run(url, TABLE, "CREATE TABLE other (id integer PRIMARY KEY, at varchar(20) NOT NULL)", "CREATE TABLE bare (id integer)")
    wrong = {**UPSERT, "with": {**UPSERT["with"], "colour": "red"}}
    short = {"upsert": "other", "key": ["id"], "with": {"id": {"value": "1", "type": "integer"}}}
    for statement, state, text in (
        ({**UPSERT, "upsert": "gone"}, "fault", "no table gone"),
        (wrong, "fault", "no column colour; it has source, no, value"),
        ({"run": "UPDATE result SET colour = :v", "with": {"v": "red"}}, "fault", "colour"),
        ({"run": "DELETE FROM gone WHERE v = :v", "with": {"v": "red"}}, "fault", "gone"),
        (short, "warning", "wants a value for at"),
    ):
        said = meridian("db", "check", "--site", statements(tmp_path, url, statement, repeatable=True), "--json")
        assert findings(said)["statement 1"][0] == state, said
        assert text in findings(said)["statement 1"][1]
        assert said.code == (1 if state == "fault" else 0)
    said = meridian("db", "check", "--site", statements(tmp_path, url, UPSERT, outbox={"table": "bare"}), "--json")
    assert "is no outbox" in findings(said)["outbox"][1]
    run(url, "CREATE TABLE loose (digest varchar(64), destination varchar(190), applied_at timestamp NULL, answer varchar(9))")
    said = meridian("db", "check", "--site", statements(tmp_path, url, UPSERT, outbox={"table": "loose"}), "--json")
    assert "must be its primary key" in findings(said)["outbox"][1]
    said = meridian("db", "check", "--site", statements(tmp_path, url, UPSERT, outbox={"table": "later", "create": True}), "--json")
    assert (said.code, findings(said)["outbox"]) == (0, ("fine", "later is made with the first message"))


@pytest.mark.parametrize("server", SERVERS)
def test_rights_are_named_and_granted(meridian: Callable[..., Said], server: str, tmp_path: Path) -> None:
    """For each statement the right that is missing; what --sql shows is what is needed, and no more."""
    with own_database(server) as url, user(url) as mine:
        run(url, TABLE, outbox(url), f"GRANT SELECT ON result TO {mine.username}", f"GRANT SELECT ON meridian_outbox TO {mine.username}")
        statements(tmp_path, mine, UPSERT, {"run": "DELETE FROM result WHERE no = :no", "with": {"no": "1"}}, outbox={})
        said = meridian("db", "check", "--site", tmp_path, "--json")
        found = findings(said)
        assert (said.code, found["outbox"][0], found["statement 1"][0], found["statement 2"][0]) == (1, "fault", "fault", "fault"), found
        assert "GRANT INSERT ON meridian_outbox TO" in found["outbox"][1]
        assert "give this user the right" in found["statement 2"][1]
        run(url, f"GRANT DELETE ON result TO {mine.username}")
        for _ in range(2):  # without the right to INSERT the outbox is not asked about DELETE
            run(url, *granted(meridian("db", "check", "--site", tmp_path, "--sql")))
        said = meridian("db", "check", "--site", tmp_path, "--json")
        assert {state for state, _ in findings(said).values()} == {"fine"}, said
        run(url, f"REVOKE DELETE ON meridian_outbox FROM {mine.username}")
        said = meridian("db", "check", "--site", tmp_path, "--json")
        assert (said.code, findings(said)["outbox"][0]) == (0, "warning")
        assert run(url, "SELECT count(*) FROM result") == [(0,)]


@pytest.mark.parametrize("server", SERVERS)
def test_a_user_who_may_make_no_outbox(meridian: Callable[..., Said], server: str, tmp_path: Path) -> None:
    """`create: true` is no help then: what --sql shows is."""
    with own_database(server) as url, user(url) as mine:
        run(url, TABLE, f"GRANT SELECT, INSERT, UPDATE ON result TO {mine.username}")
        said = meridian("db", "check", "--site", statements(tmp_path, mine, UPSERT, outbox={"create": True}), "--json")
        assert (said.code, findings(said)["outbox"][0]) == (1, "fault"), said
        for _ in range(3):  # the table, then the rights on it
            shown = granted(meridian("db", "check", "--site", tmp_path, "--sql"))
            run(url, *(one for statement in shown for one in statement.split(";\n")))
        said = meridian("db", "check", "--site", tmp_path, "--json")
        assert (said.code, findings(said)["outbox"][0]) == (0, "fine"), said


@pytest.mark.parametrize("server", SERVERS)
def test_procedures(meridian: Callable[..., Said], server: str, tmp_path: Path) -> None:
    """There or not, with as many arguments or not, and whether this user may run it."""
    body = "(a integer, b integer) BEGIN SET @x = a; END" if server == "mysql" else "(a integer, b integer) LANGUAGE sql AS 'SELECT 1'"
    with own_database(server) as url, user(url) as mine:
        run(url, f"CREATE PROCEDURE note{body}", *(["REVOKE EXECUTE ON PROCEDURE note FROM PUBLIC"] if server == "postgresql" else []))
        run(url, f"{f'GRANT SELECT ON {url.database}.*' if server == 'mysql' else 'GRANT USAGE ON SCHEMA public'} TO {mine.username}")
        two = {"procedure": "note", "with": {"a": {"value": "1", "type": "integer"}, "b": {"value": "2", "type": "integer"}}}
        one = {"procedure": "note", "with": {"a": {"value": "1", "type": "integer"}}}
        for who, statement, state, text in (
            (url, two, "fine", "may be run"),
            (url, one, "fault", "takes 2 arguments, `with` has 1"),
            (url, {**two, "procedure": "gone"}, "fault", "no procedure gone"),
            (mine, two, "fault", "may not run"),
        ):
            said = meridian("db", "check", "--site", statements(tmp_path, who, statement, repeatable=True), "--json")
            assert findings(said)["statement 1"][0] == state, said
            assert text in findings(said)["statement 1"][1]
        run(url, f"GRANT EXECUTE ON PROCEDURE note TO {mine.username}")
        said = meridian("db", "check", "--site", statements(tmp_path, mine, two, repeatable=True), "--json")
        assert findings(said)["statement 1"][0] == "fine"
        said = meridian(
            "db", "check", "--site", statements(tmp_path, mine, {"run": "CALL note(1, :b)", "with": {"b": "2"}}, repeatable=True), "--json"
        )
        assert (said.code, findings(said)["statement 1"][0]) == (0, "warning")


def test_what_mariadb_would_do_without_a_word(meridian: Callable[..., Said], tmp_path: Path) -> None:
    """Another unique index takes part in an upsert; columns lack characters; values are cut where the session is not strict."""
    with own_database("mysql") as url:
        run(
            url, "CREATE TABLE result (source varchar(20), no integer, value varchar(40) CHARACTER SET latin1, PRIMARY KEY (source, no), "
            "UNIQUE (value))",
        )  # fmt: skip
        connection = {"url": written(url), "session": {"sql_mode": "NO_ENGINE_SUBSTITUTION"}}
        site(tmp_path, "database", connection=connection, statements=[UPSERT])
        said = meridian("db", "check", "--site", tmp_path, "--json")
        found = findings(said)
        assert (said.code, found["statement 1"][0], found["charset"][0], found["strictness"][0]) == (0, "warning", "warning", "warning")
        assert "also unique by value" in found["statement 1"][1]
        assert "value latin1" in found["charset"][1]


def test_encodings_of_postgresql(meridian: Callable[..., Said], tmp_path: Path) -> None:
    """One that lacks characters, one that checks nothing."""
    for encoding in ("LATIN1", "SQL_ASCII"):
        with own_database("postgresql", encoding) as url:
            run(url.update_query_dict({"client_encoding": "utf8"}), TABLE)
            said = meridian("db", "check", "--site", statements(tmp_path, url, UPSERT), "--json")
            assert (findings(said)["charset"][0], encoding in findings(said)["charset"][1]) == ("warning", True)


def test_nobody_there(meridian: Callable[..., Said], tmp_path: Path) -> None:
    """A server that does not answer; a file that is not there, and is not made by looking."""
    said = meridian("db", "check", "--site", statements(tmp_path, "postgresql://postgres@127.0.0.1:9/x", UPSERT), "--json")
    assert (said.code, findings(said)["reach"][0]) == (1, "fault")
    assert "url, user, password" in findings(said)["reach"][1]
    said = meridian("db", "check", "--site", statements(tmp_path, "sqlite:///none.db", UPSERT), "--json")
    assert "no file" in findings(said)["reach"][1]
    said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", connection="sqlite:///none.db"), "--json")
    assert (said.code, findings(said)["reach"][0]) == (0, "fine")
    said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", connection="sqlite:///none.db", migrate=False), "--json")
    assert said.code == 1
    assert not list(tmp_path.glob("none.db*"))


# --- the landing schema ----------------------------------------------------------------------------


def test_the_level_of_the_landing_schema(meridian: Callable[..., Said], url: Any, tmp_path: Path) -> None:
    """Not there, of this version, of a later one; made by us or by somebody else."""
    schema = {"schema": "fhir"} if not isinstance(url, str) and url.get_backend_name() == "postgresql" else {}
    given = {"connection": written(url), **schema}
    if isinstance(url, str):
        run(url, "CREATE TABLE other (id integer)")
    said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", **given), "--json")
    assert (said.code, findings(said)["level"][0]) == (0, "fine"), said
    said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", **given, migrate=False), "--json")
    assert (said.code, "migrate: true" in findings(said)["level"][1]) == (1, True), said
    made = URL.create("sqlite", database=url.removeprefix("sqlite:///")) if isinstance(url, str) else url
    with Landing(made) as landing:
        landing.land()
        for more in ({}, {"migrate": False}):
            said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", **given, **more), "--json")
            assert said.code == 0, said
            assert {state for state, _ in findings(said).values()} == {"fine"}
        with landing.engine.begin() as connection:
            connection.execute(landing.schema.migrations.update().values(number=99))
        said = meridian("db", "check", "--site", tmp_path, "--json")
        assert (said.code, "version 99" in findings(said)["level"][1]) == (1, True)


@pytest.mark.parametrize("server", SERVERS)
def test_rights_on_the_landing_schema(meridian: Callable[..., Said], server: str, tmp_path: Path) -> None:
    """A user who may only read: which rights are missing; with what --sql shows all is well, and a Bundle is landed."""
    with own_database(server) as url, Landing(url) as owner, user(url, "lander") as mine:
        owner.land()
        schema = {"schema": "fhir"} if server == "postgresql" else {}
        reading = (
            [f"GRANT USAGE ON SCHEMA fhir TO {mine.username}", f"GRANT SELECT ON ALL TABLES IN SCHEMA fhir TO {mine.username}"]
            if server == "postgresql"
            else [f"GRANT SELECT ON {url.database}.* TO {mine.username}"]
        )
        run(url, *reading)
        said = meridian("db", "check", "--site", site(tmp_path, "fhir_tables", connection=written(mine), **schema), "--json")
        rights = [one for one in json.loads(said.out) if one["what"] == "rights"]
        assert said.code == 1
        assert {one["state"] for one in rights} == {"fault"}
        assert any("INSERT, UPDATE on" in one["text"] for one in rights)
        shown = granted(meridian("db", "check", "--site", tmp_path, "--sql"))
        run(url, *(one for statement in shown for one in statement.split(";\n")))
        said = meridian("db", "check", "--site", tmp_path, "--json")
        assert (said.code, findings(said)["rights"][0]) == (0, "fine"), said
        assert options(url).migrate
