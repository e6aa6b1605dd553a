"""The landing schema on PostgreSQL, MariaDB and SQLite: what the mappings make is landed, looked at through the views, and upgraded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import select
from sqlalchemy.engine import URL

from adapters.database.landing.layout import Layout, read, shipped
from adapters.database.landing.migration import views
from engine import registry
from engine.errors import MessageError, PermanentDelivery, TransientDelivery
from engine.message import Receipt
from tests.contracts.test_dicom_mapping import REPORT
from tests.support.databases import OWN_SERVERS, OwnPostgres
from tests.support.dicom_studies import image, study
from tests.support.landing import KINDS, Landing, at, check, database
from tests.support.pages import ROOT

MESSAGES = sorted(ROOT.glob("examples/*/tests/*/*.hl7"))
RECORDS = sorted(ROOT.glob("examples/*/tests/*/*.astm"))


@pytest.fixture(scope="module", params=KINDS)
def prepared(request: pytest.FixtureRequest) -> Iterator[URL]:
    """A database with its tables; each test of this module leaves what it landed, and lands what is its own."""
    with database(request.param) as url:
        with Landing(url) as landing:
            assert landing.land() == []
        yield url


@pytest.fixture(scope="module")
def mapped() -> list[bytes]:
    """What the shipped mappings make of every example message that they can read, and of a study with a structured report."""
    found = [registry.mapping("dicom-to-fhir").compile(None).map(study(*(image(number) for number in range(1, 4)), REPORT)).body]
    for name, messages in (("hl7v2-to-fhir", MESSAGES), ("astm-to-fhir", RECORDS)):
        mapper = registry.mapping(name).compile(None)
        for file in messages:
            try:
                found.append(mapper.map(file.read_bytes().replace(b"\n", b"\r")).body)
            except MessageError:  # some of them are there to be refused
                continue
    assert len(found) > (len(MESSAGES) + len(RECORDS)) // 2
    return found


def oru(number: int, value: str, at_time: str, units: str = "mmol/L") -> bytes:
    """One potassium of one patient, with an order."""
    return (
        f"MSH|^~\\&|LIS|LAB|MERIDIAN|H|20261102091500+0800||ORU^R01^ORU_R01|L{number}|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||P1^^^H^MR||Lin^Mei||19710304|F\rPV1|1|I|CARD^12^1^H||||||||||||||||V1\r"
        f"ORC|RE|O{number}^HIS|F{number}^LIS\rOBR|1|O{number}^HIS|F{number}^LIS|K^Potassium^L|||{at_time}|||||||||||||||{at_time}||CH|F\r"
        f"OBX|1|NM|2823-3^Potassium^LN||{value}|{units}|3.5-5.1|H|||F|||{at_time}\r"
    ).encode()


def test_what_the_mappings_make_is_landed(prepared: URL, mapped: list[bytes]) -> None:
    """Columns and parts are those of the JSON, exactly; again it changes nothing."""
    with Landing(prepared) as landing:
        results = landing.land(*mapped, first=1000)
        assert [result for result in results if not isinstance(result, Receipt)] == []
        check(landing)
        before = landing.everything()
        assert landing.land(*mapped, first=1000) == results
        assert landing.everything() == before


def test_results_are_found_in_the_views(prepared: URL) -> None:
    """The latest of each test, its order with its report, the stay, the day."""
    mapper = registry.mapping("hl7v2-to-fhir").compile(None)
    messages = [oru(1, "5.90", "20261102083000+0800"), oru(2, "4.1", "20261103083000+0800"), oru(3, "<0.10", "20261101083000+0800")]
    with Landing(prepared) as landing:
        landing.land(*(mapper.map(one).body for one in messages), first=2000)
        (patient,) = landing.rows("identifier", "resource_id", system="urn:meridian:ns:H", value="P1")
        results = landing.rows("v_result", "value_text", "value_unit", "patient_family", patient_id=patient)
        assert sorted(row[0] for row in results) == ["0.10", "4.1", "5.90"]
        assert {row[1:] for row in results} == {("mmol/L", "Lin")}
        (latest,) = landing.rows("v_latest_result", "value", "value_text", "effective_from", "interpretation_code", patient_id=patient)
        assert (Decimal(str(latest[0])), latest[1], latest[3]) == (Decimal("4.1"), "4.1", "H")
        assert str(latest[2]).startswith("2026-11-03")
        assert "00:30" in str(latest[2])
        orders = landing.rows("v_order_report", "placer", "report_status", "results", patient_id=patient)
        assert sorted(orders) == [("O1", "final", 1), ("O2", "final", 1), ("O3", "final", 1)]
        (stay,) = landing.rows("v_encounter_timeline", "visit", "class_code", "patient_family", "location_name", patient_id=patient)
        assert stay == (1, "IMP", "Lin", "1")
        days = landing.rows("v_daily", "messages", "versions", sender="LIS|LAB", resource_type="Observation")
        assert [tuple(map(int, day)) for day in days] == [(3, 3)]
        observation = landing.one("observation", value_text="5.90")
        assert (observation["effective"], observation["effective_from"]) == ("2026-11-02T08:30:00+08:00", at("2026-11-02T00:30:00Z"))
        assert (observation["control_id"], observation["sender"], observation["message_id"]) == ("2000", "LIS|LAB", 2000)
        if landing.dialect == "postgresql":
            assert str(observation["value"]) == "5.90"
        check(landing)


def put(kind: str, name: str, /, **elements: Any) -> dict[str, Any]:
    return {"request": {"method": "PUT", "url": f"{kind}/{name}"}, "resource": {"resourceType": kind, "id": name, **elements}}


def transaction(*entries: object) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}, ensure_ascii=False).encode()


def test_every_kind_of_resource_has_its_rows(prepared: URL) -> None:
    """Study with series and instances, document, medication, variant, appointment: their own tables and views; others the common one."""
    subject = {"reference": "Patient/k1"}
    instance = [{"uid": f"1.2.{n}", "number": n, "sopClass": {"code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}} for n in (1, 2)]
    study = {"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2"}], "subject": subject, "status": "available", "numberOfSeries": 1,
             "series": [{"uid": "1.2.9", "modality": {"code": "CT"}, "instance": instance}], "started": "2026-11-02"}  # fmt: skip
    document = {"masterIdentifier": {"value": "urn:oid:7"}, "subject": subject, "status": "current", "date": "2026-11-02T10:00:00Z",
                "content": [{"attachment": {"contentType": "application/pdf", "url": "Binary/1", "size": 12, "data": "JVBERg=="}}]}  # fmt: skip
    loinc = {"coding": [{"system": "http://loinc.org", "code": "69548-6"}]}
    alt = {"code": {"coding": [{"code": "69551-0"}]}, "valueString": "T"}
    entries = [
        put("ImagingStudy", "k-s", **study),
        put("DocumentReference", "k-d", **document),
        put("MedicationRequest", "k-m", subject=subject, status="active", medicationCodeableConcept={"text": "阿司匹林"}, intent="order"),
        put("Observation", "k-v", subject=subject, code=loinc, component=[alt], status="final"),
        put("Appointment", "k-a", status="booked", participant=[{"actor": {"reference": "Location/1"}}, {"actor": subject}], start="2026-12-01T08:00:00Z"),
        put("Composition", "k-c", subject=subject, title="出院小结", date="2026-11", section=[{"title": "诊断", "entry": [{"reference": "Condition/1"}]}]),
        put("Flag", "k-f", subject=subject, code={"text": "fall risk 😀"}),
    ]  # fmt: skip
    with Landing(prepared) as landing:
        assert [type(one) for one in landing.land(transaction(*entries), first=3000)] == [Receipt]
        assert landing.rows("v_imaging", "series_landed", "instances_landed", study_id="k-s") == [(1, 2)]
        assert landing.rows("imaging_instance", "series_uid", "uid", resource_id="k-s") == [("1.2.9", "1.2.1"), ("1.2.9", "1.2.2")]
        assert {row[0] for row in landing.rows("v_document", "id", "title", patient_id="k1")} == {"k-d", "k-c"}
        assert landing.rows("v_medication", "medication_text", patient_id="k1") == ["阿司匹林"]
        assert landing.rows("v_variant", "alt_allele", patient_id="k1") == ["T"]
        assert landing.one("appointment", id="k-a")["patient_id"] == "k1"
        assert landing.one("other_resource", id="k-f")["content"]["code"] == {"text": "fall risk 😀"}
        assert landing.rows("identifier", "resource_id", value="urn:oid:7") == ["k-d"]
        check(landing)


def test_versions_and_deletions_are_kept(prepared: URL) -> None:
    """The row is what the resource is now; every version stays as it was received; the parts of a deleted one are gone."""
    name = {"name": [{"family": "Lin"}]}
    with Landing(prepared) as landing:
        landing.land(transaction(put("Patient", "k-p", **name)), first=4000)
        landing.land(transaction(put("Patient", "k-p", name=[{"family": "Wang"}])), first=4001)
        assert landing.one("patient", id="k-p")["family"] == "Wang"
        landing.land(transaction({"request": {"method": "DELETE", "url": "Patient/k-p"}}), first=4002)
        gone = landing.one("patient", id="k-p")
        assert (gone["deleted"], gone["version"], gone["family"]) == (True, 3, "Wang")
        assert landing.rows("patient_name", resource_id="k-p") == []
        kept = landing.rows("resource_version", "version", "method", "received", id="k-p")
        assert [(version, method) for version, method, _ in kept] == [(1, "PUT"), (2, "PUT"), (3, "DELETE")]
        assert json.loads(kept[0][2])["name"] == name["name"]
        landing.land(transaction(put("Patient", "k-p", **name)), first=4003)
        assert landing.one("patient", id="k-p")["version"] == 4
        check(landing)


def test_what_no_column_holds_is_in_the_json(prepared: URL) -> None:
    """Numbers beyond every decimal, times beyond the calendar, a text longer than an index takes."""
    exact = '{"value":0.1234567890123456789012345678901234567890,"unit":"%s"}' % ("µ" * 3000)
    body = (
        b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Observation/k-o"},"resource":'
        b'{"resourceType":"Observation","id":"k-o","status":"final","code":{"coding":[{"code":"' + b"x" * 5000 + b'"}]},'
        b'"effectiveDateTime":"2026-02-30","valueQuantity":' + exact.encode() + b',"identifier":[{"value":"' + b"y" * 5000 + b'"}],'
        b'"component":[{"valueQuantity":{"value":1e400}},{"valueInteger":99999999999999999999}]}}]}'
    )
    with Landing(prepared) as landing:
        assert [type(one) for one in landing.land(body, first=5000)] == [Receipt]
        row = landing.one("observation", id="k-o")
        assert row["value_text"] == "0.1234567890123456789012345678901234567890"
        assert (len(row["value_unit"]), len(row["code"])) == (3000, 600)
        assert row["effective"] == "2026-02-30"
        assert "effective_from" not in row
        if landing.dialect == "postgresql":
            assert str(row["value"]) == row["value_text"]
        (received,) = landing.rows("resource_version", "received", id="k-o")
        assert '"value":0.1234567890123456789012345678901234567890' in received
        again = body.replace(b"k-o", b"k-q").replace(
            b'"PUT","url":"Observation/k-q"', b'"PUT","url":"Observation?identifier=' + b"y" * 5000 + b'"'
        )
        again = again.replace(b'"id":"k-q",', b"")
        assert json.loads(landing.land(again, first=5001)[0].answer)["unchanged"] == 1  # it is found by all of its identifier


def test_a_refusal_names_the_entry_and_changes_nothing(prepared: URL) -> None:
    """Conditions that several fit, references that none fits, a key that comes with another Bundle."""
    twins = transaction(put("Device", "k-1", identifier=[{"value": "twin"}]), put("Device", "k-2", identifier=[{"value": "twin"}]))
    create = {"request": {"method": "POST", "url": "Device", "ifNoneExist": "identifier=twin"}, "resource": {"resourceType": "Device"}}
    lost = put("Flag", "k-l", subject={"reference": "Patient?identifier=nobody"})
    with Landing(prepared) as landing:
        landing.land(twins, first=6000)
        before = landing.everything()
        several, none, other = landing.land(transaction(create), transaction(put("Flag", "k-x"), lost), first=6001) + landing.land(
            b"{}", first=6000
        )
        assert (several.text, several.location) == ("several resources match the condition", "Bundle.entry[0]")
        assert (none.text, none.location) == ("no Patient matches a conditional reference", "Bundle.entry[1]")
        assert "another Bundle" in other.text
        assert all(isinstance(one, PermanentDelivery) for one in (several, none, other))
        assert landing.everything() == before


def test_every_table_and_column_says_what_it_is(prepared: URL) -> None:
    with Landing(prepared) as landing:
        if not landing.engine.dialect.supports_comments:
            pytest.skip("SQLite has no comments")
        inspector = sqlalchemy.inspect(landing.engine)
        names = inspector.get_table_names(schema=landing.schema.name)
        assert set(names) == {table.name for table in landing.schema.metadata.sorted_tables}
        for name in names:
            assert inspector.get_table_comment(name, schema=landing.schema.name)["text"], name
            assert [c["name"] for c in inspector.get_columns(name, schema=landing.schema.name) if not c["comment"]] == [], name
        if landing.dialect == "postgresql":
            for name, doc, _ in views():
                assert inspector.get_table_comment(name, schema="fhir")["text"] == doc


def test_writers_at_once_make_each_resource_once(prepared: URL) -> None:
    """Two nodes land the same people: one makes each of them, and sequence numbers rise without a gap."""
    if prepared.get_backend_name() == "sqlite":
        pytest.skip("a file of SQLite has one writer")
    bodies = [
        transaction({"request": {"method": "POST", "url": "Person", "ifNoneExist": f"identifier={number}"},
                     "resource": {"resourceType": "Person", "identifier": [{"value": str(number)}]}})
        for number in range(30)
    ]  # fmt: skip
    outcomes: dict[int, list[Any]] = {}

    def write(first: int, landing: Landing) -> None:
        outcomes[first] = [landing.land(body, first=first + number)[0] for number, body in enumerate(bodies)]

    with Landing(prepared) as one, Landing(prepared) as two:
        threads = [threading.Thread(target=write, args=args) for args in ((7000, one), (8000, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert all(isinstance(result, Receipt) for results in outcomes.values() for result in results)
        created = sum(json.loads(result.answer)["created"] for results in outcomes.values() for result in results)
        assert created == 30
        check(one)


# --- upgrades ------------------------------------------------------------------------------------


def earlier(change: Callable[[str, str], tuple[str, str]]) -> Layout:
    """The shipped layout as if some of it had come with version 2."""
    folder = files("adapters.database.landing")
    return read(*change((folder / "tables.csv").read_text("utf-8"), (folder / "columns.csv").read_text("utf-8")))


def _since_two(tables: str, columns: str) -> tuple[str, str]:
    """New in version 2: a column of resources, one of parts, an indexed one, a table of parts, the table of a type; none that a view needs."""
    wanted = ("patient,gender,", "observation_component,data_absent_reason,", "encounter,part_of,", "patient,managing_organization,")
    columns = columns.replace("encounter,part_of,reference,partOf,,1", "encounter,part_of,reference,partOf,i,1")
    changed = [line.replace(",,1,", ",,2,").replace(",i,1,", ",i,2,") if line.startswith(wanted) else line for line in columns.splitlines()]
    later = ("patient_name,", "specimen,", "observation_reference_range,")
    return "\n".join(line.replace(",1,", ",2,", 1) if line.startswith(later) else line for line in tables.splitlines()), "\n".join(changed)


def _indexes(landing: Landing, table: str) -> list[Any]:
    return list(sqlalchemy.inspect(landing.engine).get_indexes(table, schema=landing.schema.name))


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_fills_what_is_new(kind: str, mapped: list[bytes]) -> None:
    """A database of version 1 with rows, brought to version 2, is the same as one that was version 2 from the start."""
    new = earlier(_since_two)
    assert new.version == 2
    specimen = transaction(put("Specimen", "s", type={"text": "blood"}, identifier=[{"value": "9"}]), put("Flag", "f"))
    component = [{"dataAbsentReason": {"text": "asked"}}, {"valueString": "x"}]
    more = transaction(put("Observation", "o", component=component), put("Encounter", "e", partOf={"reference": "Encounter/f"}))
    bodies = [*mapped, specimen, more]
    with database(kind) as url, Landing(url, new.up_to(1)) as old:
        assert "gender" not in old.schema.tables["patient"].c
        old.land(*bodies)
        check(old)
        assert old.rows("other_resource", "resource_type", id="s") == ["Specimen"]
        with Landing(url, new) as landing:
            assert landing.land() == []
            check(landing)
            assert landing.rows("landing_migration", "number") == [1, 2]
            assert landing.rows("specimen", "type_text", id="s") == ["blood"]
            assert landing.rows("observation_component", "data_absent_reason_text", resource_id="o") == ["asked", None]
            assert landing.rows("encounter", "part_of_id", id="e") == ["f"]
            (index,) = [found for found in _indexes(landing, "encounter") if found["name"] == "encounter_part_of_id_i"]
            assert index["column_names"] == ["part_of_id"]
            with Landing(url, new.up_to(1)) as behind:
                (waits,) = behind.land(specimen, first=900)
            assert isinstance(waits, TransientDelivery)
            assert "version 2" in waits.text
            with database("sqlite") as other, Landing(other, new) as fresh:
                fresh.land(*bodies)
                assert fresh.rows("patient_name", "resource_id", "family") == landing.rows("patient_name", "resource_id", "family")
                assert fresh.rows("specimen", "id", "seq") == landing.rows("specimen", "id", "seq")
            landing.land(*mapped, first=500)
            check(landing)


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_that_was_cut_off_goes_on(kind: str) -> None:
    """The columns are there, the note that the step is done is not: it is done again, and nothing is there twice."""
    new = earlier(_since_two)
    body = transaction(put("Patient", "p", gender="female", name=[{"family": "Lin"}]))
    with database(kind) as url:
        with Landing(url, new.up_to(1)) as old:
            old.land(body)
        with Landing(url, new) as landing:
            landing.land()
            with landing.engine.begin() as connection:
                connection.execute(landing.schema.migrations.delete().where(landing.schema.migrations.c.number == 2))
        with Landing(url, new) as landing:
            landing.land()
            check(landing)
            assert landing.rows("patient", "gender") == ["female"]
            with landing.engine.connect() as connection:
                assert len(connection.execute(select(landing.schema.migrations)).all()) == 2


def test_a_database_that_may_not_be_changed_is_waited_for() -> None:
    """`migrate: false`: the tables are somebody else's business."""
    with database("sqlite") as url, Landing(url, migrate=False) as landing:
        (waits,) = landing.land(b"{}")
        assert isinstance(waits, TransientDelivery)
        assert waits.whole_destination
        assert "version 0" in waits.text
        with Landing(url) as other:
            other.land()
        (refused,) = landing.land(b"{}")
        assert isinstance(refused, PermanentDelivery)


def test_the_shipped_layout_is_version_one() -> None:
    """Whoever changes it gives what is new the next number, and this test too."""
    assert shipped().version == 1
    assert shipped().up_to(1) == shipped()


def test_who_may_do_little_makes_everything_wait() -> None:
    """A user without rights on the tables: no message is at fault, and what is wrong is said; with the rights it goes on."""
    with OwnPostgres() as server, Landing(server.url) as owner:
        owner.land()
        with owner.engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE ROLE analyst LOGIN"))
            connection.execute(
                sqlalchemy.text("GRANT USAGE ON SCHEMA fhir TO analyst; GRANT SELECT ON ALL TABLES IN SCHEMA fhir TO analyst")
            )
        with Landing(server.url.set(username="analyst")) as landing:
            (waits,) = landing.land(transaction(put("Patient", "p")))
            assert isinstance(waits, TransientDelivery)
            assert waits.whole_destination
            assert "42501" in waits.text
            with owner.engine.begin() as connection:
                connection.execute(sqlalchemy.text("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fhir TO analyst"))
            assert [type(one) for one in landing.land(transaction(put("Patient", "p")))] == [Receipt]


@pytest.mark.parametrize("kind", list(OWN_SERVERS))
def test_an_empty_server_in_its_place_is_taken(kind: str) -> None:
    """Failed over to a standby that has nothing: what comes then is landed there, in tables made anew."""
    body = transaction(put("Patient", "p"))
    with OWN_SERVERS[kind]() as server, Landing(server.url) as landing:
        assert [type(one) for one in landing.land(body)] == [Receipt]
        server.kill()
        (waits,) = landing.land(body, first=2)
        assert isinstance(waits, TransientDelivery)
        assert waits.whole_destination
        with OWN_SERVERS[kind](server.port):
            outcomes = [landing.land(body, first=2)[0] for _ in range(2)]
            assert isinstance(outcomes[-1], Receipt)
            assert landing.rows("landed_message", "control_id") == ["2"]
            check(landing)
