"""What the documentation shows is run: every sh block of the README's tour and of the operating page, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest
from ruamel.yaml import YAML
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from adapters.database.capture.options import SOURCE as CAPTURE
from adapters.database.landing.migration import views
from adapters.database.options import CONNECTION
from adapters.database.polling.server import server_of
from adapters.fhir.options import DESTINATION
from engine.audit import Entry, append
from engine.errors import Fault
from engine.options import Place
from engine.secrets import secrets_of
from mappings.rows_to_fhir.loading import compile_file
from tests.support.databases import engine_of, own_database
from tests.support.pages import ROOT, blocks, run
from tests.support.peers import require


def test_the_tour(tmp_path: Path) -> None:
    """Own site, check, test, run, send, search, show, queue, ledger, convert: each command of the README ends well."""
    _, *tour = blocks("README.md")
    commands = "\n".join(tour).replace(
        "meridian run my-hospital &", "meridian run my-hospital >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    for shown in ("fine: first", "1 passed, 0 failed", "admission.hl7: AA", "SENT", "yes", "Patient", "Patient-PID row", "messages.shown"):
        assert shown in output, output


def test_an_instrument_is_connected(tmp_path: Path) -> None:
    """The page's commands, in order: the result is acknowledged, mapped and in the repository."""
    commands = "\n".join(blocks("engine/docs/instruments.md")).replace(
        "meridian run laboratory &", "meridian run laboratory >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    for shown in ("fine: chemistry, first", "fine: chemistry, first, orders", "glucose.astm: ACK kept", "ASTM^R", "SENT", "100200300"):
        assert shown in output, output
    expected = (tmp_path / "laboratory/tests/chemistry/glucose.expected.json").read_text()
    assert expected.count('"unmapped-test"') == 1
    assert '"14749-6"' in expected


def test_a_modality_is_connected(tmp_path: Path) -> None:
    """The page's commands, in order: the image is stored, its study is told of and can be asked for."""
    require(Path("/usr/bin/storescu").exists(), "Debian package dcmtk is not installed")
    commands = "\n".join(blocks("engine/docs/imaging.md")).replace(
        "meridian run imaging &", "meridian run imaging >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    for shown in ("fine: first, images, studies", "CTImageStorage", "STUDY^COMPLETE", "CompressedSamples^CT1", "ImagingStudy", "SENT"):
        assert shown in output, output


def test_a_vendors_table_is_read(tmp_path: Path) -> None:
    """The page's commands, in order: a warning before there is an index and none after; late and changed rows come; they are landed."""
    commands = "\n".join(blocks("engine/docs/databases.md")).replace(
        "meridian run laboratory &", "meridian run laboratory >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    looked = ("fine: first, orders", "told apart by order_no", "would take 2 rows", "张三", "李四", "the columns of orders have changed")
    for shown in (*looked, "A1000", "late GLU 6.1", "张三 GLU 5.10 mmol/L"):
        assert shown in output, output
    assert output.count("an index on (changed, order_no) is missing") == 1
    assert len((tmp_path / "landing-schema.md").read_text()) > 10_000
    (received, delivered) = [int(n) for n in re.findall(r"^orders\s+(\d+)\s+(\d+)", output, re.MULTILINE)[-1]]
    assert (received, delivered) == (4, 4)


def test_a_journal_is_uploaded(tmp_path: Path) -> None:
    """The page's commands, in order: three lines kept and one refused with its number; where to go on; all again changes nothing."""
    commands = "\n".join(blocks("engine/docs/uploads.md")).replace(
        "meridian run clinic &", "meridian run clinic >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    assert output.count('"valueCode":"kept"') == 3
    assert output.count('"valueCode":"refused"') == 2, output
    for shown in ('"name":"next","valueDecimal":5', "3 kept, 1 refused; settled up to 4", "3 repeated, 1 refused; settled up to 4"):
        assert shown in output, output


def test_files_are_taken_in(tmp_path: Path) -> None:
    """The page's commands, in order: two rows are written, two are kept with file and line, the report says so, and the ledger closes."""
    commands = "\n".join(blocks("engine/docs/files.md")).replace(
        "meridian run hospital &", "meridian run hospital >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    for shown in (
        "fine: first, results",
        "fine: drop, first, results",
        "sftp_host.key has the fingerprint SHA256:",
        "3 passed, 0 failed",
        "today.csv,3,2,has 2 cells; the heading names 4",
        "today.csv,4,3,",
        "A1|GLU",
        "SENT",
    ):
        assert shown in output, output
    assert sorted(file.name for file in (tmp_path / "hospital/out").iterdir()) == ["A1-GLU.json", "A4-NA.json"]
    (received, delivered, _, dead) = map(int, re.findall(r"^results\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", output, re.MULTILINE)[-1])
    assert (received, delivered, dead) == (4, 2, 2)


_TABLES = ("orders (order_no varchar(20) PRIMARY KEY, changed timestamp, note text)", "results (order_no varchar(20), line int)")


@pytest.mark.parametrize(("server", "block", "schema"), [("postgresql", 0, "lab."), ("mysql", 1, "")])
def test_a_reader_can_read_and_nothing_else(server: str, block: int, schema: str) -> None:
    """The page's user, on a live server: the statements are taken as they stand; the user reads the two tables, and may not write."""
    statements = blocks("engine/docs/databases.md", "sql")[block].strip().split(";")
    name = f"meridian_reader_{uuid4().hex[:8]}"
    with own_database(server) as url:
        owner = engine_of(url)
        reader = create_engine(url.set(username=name, password="from your password store"))
        with owner.connect() as connection:
            if schema:
                connection.exec_driver_sql("CREATE SCHEMA lab")
            for table in (*_TABLES, "payroll (amount int)"):
                connection.exec_driver_sql(f"CREATE TABLE {schema}{table}")
            try:
                for statement in filter(None, statements):
                    connection.exec_driver_sql(statement.replace("meridian_reader", name).replace("%", "%%" if server == "mysql" else "%"))
                with reader.connect() as reading:
                    reading.exec_driver_sql(f"SELECT count(*) FROM {schema}orders JOIN {schema}results USING (order_no)")
                    assert server_of(reading)
                    for refused in (f"DELETE FROM {schema}orders", f"SELECT * FROM {schema}payroll"):
                        with pytest.raises(DBAPIError, match="denied"):
                            reading.exec_driver_sql(refused)
                        reading.rollback()
            finally:
                reader.dispose()
                if schema:
                    connection.exec_driver_sql(f"DROP OWNED BY {name}")
                connection.exec_driver_sql(f"DROP USER {name}")
        owner.dispose()


def test_a_vendors_platform_is_connected(tmp_path: Path) -> None:
    """The page's commands, in order: AA, the same again, AE; the message is in the repository; a signed call is taken, another is not;
    a call of ours is worded."""
    pytest.importorskip("xmlsec")
    started = "meridian run hospital >>run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    commands = "\n".join(blocks("engine/docs/webservices.md")).replace("meridian run hospital &", started).replace("%1", "$NODE")
    output = run(commands, tmp_path)
    assert output.count("AA accepted") == 3, output
    for shown in ("fine: first, platform, visits", "AE the action PatientInfoUpdate takes", "SENT", "it is not signed", "欧阳大川"):
        assert shown in output, output


def test_a_webhook_is_taken(tmp_path: Path) -> None:
    """The page's commands, in order: signed, signed again, wrongly signed; one message, and the request that it becomes."""
    started = "meridian run clinic >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    output = run("\n".join(blocks("engine/docs/http.md")).replace("meridian run clinic &", started), tmp_path)
    assert output.count('{"taken":"B-1"} 202') == 2, output
    for shown in (
        "fine: bookings, first",
        "POST http://127.0.0.1:8096/urgent/B-1",
        '\\"minutes\\": 20.0',
        "the signature is not right",
        "booking.made",
    ):
        assert shown in output, output


@pytest.mark.parametrize("page", ["engine/docs/http.md", "mappings/README.md"])
def test_the_rules_that_a_page_shows(page: str, tmp_path: Path) -> None:
    """Its yaml block is a file of rules that compiles, once the site's code tables are beside it."""
    (block,) = blocks(page, "yaml")
    (tmp_path / "rules.yaml").write_text(block, encoding="utf-8")
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes/result-state.csv").write_text("code,to,system,display\nF,final,,\n", encoding="utf-8")
    compile_file(tmp_path / "rules.yaml")


def test_a_terminal_is_connected(tmp_path: Path) -> None:
    """The page's commands, in order: taken in JSON and XML, refused with the element, read back by its sender only, a message once."""
    started = "meridian run clinic >>run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    commands = "\n".join(blocks("engine/docs/terminals.md")).replace("meridian run clinic &", started).replace("%1", "$NODE")
    output = run(commands, tmp_path)
    for shown in (
        "fine: first, terminals",
        "Patient/p1/_history/1",
        '<value value="5.10"/>',
        "Observation create",
        "there is no such Patient",
    ):
        assert shown in output, output
    for expression in ("Patient.birthDate", "Patient.gendre", "Patient.active"):
        assert f'"expression":["{expression}"]' in output, output
    assert output.count("did you mean gender?") == 1
    assert output.count('"identifier":"m-1","code":"ok"') == 2
    (received, delivered) = [int(n) for n in re.findall(r"^events\s+(\d+)\s+(\d+)", output, re.MULTILINE)[-1]]
    assert (received, delivered) == (1, 0)


def test_the_first_screen_names_the_two_commands() -> None:
    """make demo and make test, within the first 20 lines, and targets of the Makefile."""
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in first
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_the_operating_page(tmp_path: Path) -> None:
    """Every sh block of the page, in one folder, in order; the site of the README's tour has run there."""
    audit = tmp_path / "my-hospital/data/audit"
    audit.mkdir(parents=True)
    (tmp_path / "my-hospital/meridian.yaml").write_text("name: my-hospital\nparty: my-hospital\n")
    append(audit, [Entry(1_764_000_000_000_000, "node.started", {"node": "my-hospital"})], 1_764_000_000_000_000)
    output = run("\n".join(blocks("engine/docs/operating.md")), tmp_path)
    assert output.count("whole: 1 records") == 2
    assert "2 added, 0 changed" in output
    assert "sent back to its maker" in output
    assert b"ENCRYPTED" in (tmp_path / "city-certs/node.key").read_bytes()


def test_the_operating_pages_options() -> None:
    """Its yaml block is a destination as the options have it."""
    (block,) = blocks("engine/docs/operating.md", "yaml")
    faults: list[Fault] = []
    settings = DESTINATION.parse(YAML().load(block)["fhir"], Place("operating.md"), faults)
    assert faults == []
    assert [str(secret) for secret in secrets_of(settings)] == ["env:MERIDIAN_KEY_PASSPHRASE", "file:secrets/platform-token"]


def test_the_databases_pages_options() -> None:
    """Its yaml blocks are a connection, and a source of change capture, as the options have them."""
    connection, capture = (YAML().load(block) for block in blocks("engine/docs/databases.md", "yaml"))
    faults: list[Fault] = []
    settings = CONNECTION.parse(connection["connection"], Place("databases.md"), faults)
    captured = CAPTURE.parse(capture["source"]["database_capture"], Place("databases.md"), faults)
    assert faults == []
    assert [str(secret) for secret in secrets_of(settings)] == ["env:LIS_PASSWORD"]
    assert [table.name for table in captured.tables] == ["lab.result", "lab.orders"]


def test_the_pages_views_are_those_of_the_landing_schema() -> None:
    """Each with what it is for."""
    page = (ROOT / "engine/docs/databases.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(v_\w+)` \| (.*) \|$", page, re.MULTILINE) == [(name, doc) for name, doc, _ in views()]


def test_every_metric_is_told_of_on_the_operating_page() -> None:
    """Also those of servers, which are called after their adapter."""
    called = {
        name for folder in ("engine", "adapters") for file in (ROOT / folder).rglob("*.py") for name in _metrics(file.read_text("utf-8"))
    }
    servers = {f"meridian_{name}_answers_total" for name in ("fhir", "http", "soap", "dicomweb")}
    page = (ROOT / "engine/docs/operating.md").read_text("utf-8")
    assert len(called) > 40
    assert {name for name in called | servers if f"`{name}`" not in page} == set()


def _metrics(text: str) -> list[str]:
    return re.findall(
        r'"(meridian_[a-z0-9_]+_(?:total|seconds|bytes|left|stopped|depth|letters|waiting|unwritten|connections|associations))"', text
    )


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(str(page.relative_to(ROOT)) for folder in ("engine", "mappings", "examples") for page in (ROOT / folder).rglob("*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links of every page exist."""
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_a_terminal_enters(tmp_path: Path) -> None:
    """The page's commands, in order: a token by openssl and curl, not a second one; the own patient, another's, and after it was disabled."""
    commands = "\n".join(blocks("engine/docs/entrance.md")).replace(
        "meridian run ward &", "meridian run ward >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    assert "fine: first, terminals" in output, output
    assert '"token_endpoint":"http://127.0.0.1:8445/fhir/token"' in output
    assert "the assertion was used before (jti)" in output
    assert [line for line in output.splitlines() if line in ("202", "403", "401")] == ["202", "403", "401"], output
