"""The pure parts of the landing schema: paths, partial dates, kinds of columns, the declaration, entries of Bundles."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from adapters.database.landing import dates, extraction, requests
from adapters.database.landing.documentation import documentation
from adapters.database.landing.kinds import KINDS, Form
from adapters.database.landing.layout import read, shipped
from adapters.database.landing.migration import views
from adapters.database.landing.paths import compiled, items, values
from adapters.database.landing.requests import Refused, Search, Token
from engine.errors import ParseError
from engine.formats import fhir

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("a", [1]),
        ("list.b", [2, 3]),
        ("list[k=y].b", [3]),
        ("list[k^y].b", [3]),
        ("parts[code~X].v", ["x"]),
        ("parts[code~Z].v", ["z"]),
        ("absent|a", [1]),
        ("absent", []),
        ("a.b", []),
        ("", [{}]),
    ],
)
def test_a_path_finds(path: str, wanted: list[object]) -> None:
    """Lists are walked through, conditions choose among their items, alternatives are tried in turn."""
    item = {
        "a": 1,
        "list": [{"k": "x", "b": 2}, {"k": "y", "b": 3}],
        "parts": [{"code": {"coding": [{"code": "W"}, {"code": "X"}]}, "v": "x"}, {"code": "Z", "v": "z"}],
    }
    assert values(compiled(path), item if path else {}) == wanted


def test_a_path_leads_out_of_an_item() -> None:
    study = {"series": [{"uid": "1", "instance": [{"n": 1}, {"n": 2}]}, {"uid": "2", "instance": [{"n": 3}]}]}
    found = [(item["n"], values(compiled("^.uid"), item, around)) for item, around in items(compiled("series.instance"), study)]
    assert found == [(1, ["1"]), (2, ["1"]), (3, ["2"])]


@pytest.mark.parametrize("path", ["a..b", "a[b]", "a[b!c]", ".", "a b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        compiled(path)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("1971", date(1971, 1, 1), date(1972, 1, 1)),
        ("1971-12", date(1971, 12, 1), date(1972, 1, 1)),
        ("1971-02", date(1971, 2, 1), date(1971, 3, 1)),
        ("2024-02-29", date(2024, 2, 29), date(2024, 3, 1)),
        ("9999", date(9999, 1, 1), None),
        ("9999-12-31", date(9999, 12, 31), None),
        ("2023-02-29", None, None),
        ("0000", None, None),
        ("yesterday", None, None),
    ],
)
def test_a_partial_date_covers_days(text: str, low: date | None, high: date | None) -> None:
    assert dates.days(text) == (low, high)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026-11-02", "2026-11-01T16:00:00", "2026-11-02T16:00:00"),
        ("2026-11-02T08:30", "2026-11-02T00:30:00", "2026-11-02T00:31:00"),
        ("2026-11-02T08:30:00+08:00", "2026-11-02T00:30:00", "2026-11-02T00:30:01"),
        ("2026-11-02T08:30:00.5-05:00", "2026-11-02T13:30:00.500000", "2026-11-02T13:30:00.600000"),
        ("2026-11-02T08:30:00.1234567Z", "2026-11-02T08:30:00.123456", "2026-11-02T08:30:00.123457"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59", ""),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00", "2017-01-01T00:00:01"),
    ],
)
def test_a_time_covers_moments(text: str, low: str, high: str) -> None:
    """What names no zone is of the site's."""
    assert dates.instants(text, SHANGHAI) == tuple(datetime.fromisoformat(one).replace(tzinfo=UTC) if one else None for one in (low, high))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "2026-13-01T00:00:00Z", "2026-11-02T25:00:00Z", "now"])
def test_a_time_that_is_none_has_no_range(text: str) -> None:
    assert dates.instants(text, UTC) == (None, None)


@pytest.mark.parametrize(
    ("kind", "json_text", "wanted"),
    [
        ("decimal", "1.50", (Decimal("1.50"), "1.50")),
        ("decimal", "1E3", (Decimal(1000), "1E3")),
        ("decimal", "0.1234567890123456789012345", (Decimal("0.1234567890123456789012345"), "0.1234567890123456789012345")),
        ("decimal", "1e2000", (None, "1e2000")),
        ("decimal", '"5"', (None, "5")),
        ("decimal", "true", (None, "true")),
        ("integer", "9223372036854775807", (9223372036854775807,)),
        ("integer", "9223372036854775808", (None,)),
        ("integer", "117559593.0", (117559593,)),
        ("integer", "1.5", (None,)),
        ("boolean", "false", (False,)),
        ("boolean", '"false"', (None,)),
        ("text", "7", ("7",)),
        ("text", "{}", (None,)),
        ("date", '"1971-03"', ("1971-03", date(1971, 3, 1), date(1971, 4, 1))),
        ("coding", '{"system":"s","code":"c"}', ("c", "s", None)),
        ("concept", '{"coding":[{"display":"d"},{"code":"c"}],"text":"t"}', ("c", None, None, "t")),
        ("concept", '{"text":"t"}', (None, None, None, "t")),
        ("concept", '"odd"', (None, None, None, None)),
        ("quantity", '{"value":5.90,"comparator":"<","unit":"g"}', (Decimal("5.90"), "5.90", "<", "g", None, None)),
        ("reference", '{"reference":"Patient/7","display":"Lin"}', ("Patient", "7", "Lin")),
        ("reference", '{"reference":"Patient/7/_history/3"}', ("Patient", "7", None)),
        ("reference", '{"reference":"http://a/Patient/7"}', (None, None, "http://a/Patient/7")),
        ("reference", '{"type":"Patient","identifier":{"system":"s","value":"v"}}', ("Patient", None, "s|v")),
        ("reference", '{"display":"Lin"}', (None, None, "Lin")),
    ],
)
def test_a_kind_reads(kind: str, json_text: str, wanted: tuple[object, ...]) -> None:
    """Exactly, and what does not fit a column leaves it NULL."""
    value = fhir.parse(f'{{"v":{json_text}}}'.encode())["v"]
    found = KINDS[kind].read([value], UTC)
    assert found == wanted
    assert len(found) == len(KINDS[kind].parts)


def test_the_declaration_is_one() -> None:
    """Every table has its columns, no SQL column twice, and a text that says what it is."""
    layout = shipped()
    for table in layout.tables:
        names = [name for column in table.columns for name, _, _ in column.sql()]
        assert len(names) == len(set(names)), table.name
        assert table.doc
        assert all(column.doc for column in table.columns)
        assert table.columns or table.name == "other_resource"
    assert layout.of("Device")[0].name == "other_resource"
    assert [table.name for table in layout.of("Device")[1]] == ["identifier"]
    assert layout.of("Observation")[0].name == "observation"
    numeric = [(t, c) for t in layout.tables for c in t.columns for _, form, _ in c.sql() if form is Form.NUMERIC]
    assert all(any(name == f"{c.name}_text" for name, _, _ in c.sql()) for _, c in numeric)  # what the export reads exact digits from


@pytest.mark.parametrize(
    ("tables", "columns", "said"),
    [
        ("t,Patient,,,1,d", "t,c,colour,x,,1,d", "no kind"),
        ("t,Patient,,,1,d", "u,c,text,x,,1,d", "not there"),
        ("t,Patient,,,1,d", "t,c,concept,x,,1,d\nt,c_code,text,x,,1,d", "named twice"),
        ("t,Patient,,,1,d", "t,c,text,x..y,,1,d", "not a path"),
    ],
)
def test_a_wrong_declaration_is_refused(tables: str, columns: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(f"table,resource,path,where,since,doc\n{tables}", f"table,column,type,path,index,since,doc\n{columns}")


def test_every_view_is_found() -> None:
    """The file's comments name each."""
    assert [name for name, _, _ in views()] == [
        "v_result", "v_latest_result", "v_encounter_timeline", "v_order_report", "v_imaging", "v_document", "v_medication", "v_variant", "v_daily",
    ]  # fmt: skip


def test_the_documentation_has_every_column() -> None:
    """With the element that each comes from."""
    text = documentation(shipped())
    for table in shipped().tables:
        assert f"## {table.name}\n" in text
    assert "| `birth_date_from` | day | `birthDate` | Date of birth (first day) |" in text
    assert "- `v_latest_result`: " in text
    assert text.count("| `") > sum(len(list(column.sql())) for table in shipped().tables for column in table.columns)


# --- entries -------------------------------------------------------------------------------------


def bundle(*entries: object, **more: object) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries, **more}).encode()


def entry(method: str, url: str, resource: object = None, **request: object) -> dict[str, object]:
    return {"request": {"method": method, "url": url, **request}, **({} if resource is None else {"resource": resource})}


def test_entries_are_read() -> None:
    patient = {"resourceType": "Patient"}
    read_entries = requests.read(
        bundle(
            entry("POST", "Patient", patient, ifNoneExist="identifier=urn:a|1"),
            entry("PUT", "Patient/x", {**patient, "id": "x"}, ifMatch='W/"3"'),
            entry("PUT", "Patient?identifier=urn:a%7C1,2&_id=z", patient),
            entry("DELETE", "Patient/y"),
            entry("GET", "Patient/y"),
        )
    ).requests
    assert [one.method for one in read_entries] == ["POST", "PUT", "PUT", "DELETE"]
    assert read_entries[0].search == Search("Patient", ((Token("1", "urn:a"),),), None)
    assert (read_entries[1].resource_id, read_entries[1].if_match) == ("x", "3")
    assert read_entries[2].search == Search("Patient", ((Token("1", "urn:a"), Token("2", None)),), ("z",))


@pytest.mark.parametrize(
    ("wrong", "location"),
    [
        (entry("PATCH", "Patient/x"), "Bundle.entry[0]"),
        (entry("POST", "Patient/x", {"resourceType": "Patient"}), "Bundle.entry[0]"),
        (entry("PUT", "Patient", {"resourceType": "Patient"}), "Bundle.entry[0]"),
        (entry("PUT", "Patient/x", {"resourceType": "Patient"}), "Bundle.entry[0].resource.id"),
        (entry("POST", "Patient", {"resourceType": "Device"}), "Bundle.entry[0].resource"),
        (entry("POST", "Patient"), "Bundle.entry[0].resource"),
        (entry("POST", "Patient", {"resourceType": "Patient", "meta": 1}), "Bundle.entry[0].resource.meta"),
        (entry("POST", "Patient", {"resourceType": "Patient"}, ifNoneExist="name=Lin"), "Bundle.entry[0]"),
        (entry("POST", "Patient", {"resourceType": "Patient"}, ifNoneExist="identifier=urn:a|"), "Bundle.entry[0]"),
        (entry("PUT", "Patient/x", {"resourceType": "Patient", "id": "x"}, ifMatch="3"), "Bundle.entry[0]"),
        (entry("POST", "Patient", {"resourceType": "Patient", "name": [{"family": "a\0b"}]}), "entry[0].resource.name[0].family"),
        ({"fullUrl": "urn:uuid:x"}, "Bundle.entry[0]"),
    ],
)
def test_what_cannot_be_landed_is_refused_where_it_is(wrong: object, location: str) -> None:
    with pytest.raises(Refused) as refused:
        requests.read(bundle(wrong))
    assert refused.value.location == location


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]", b'{"a":1,"a":2}'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ParseError):
        requests.read(body)


def test_a_resource_alone_is_an_update_or_a_create() -> None:
    (update,) = requests.read(b'{"resourceType":"Patient","id":"x"}').requests
    (create,) = requests.read(b'{"resourceType":"Bundle","type":"document"}').requests
    assert (update.method, update.resource_id) == ("PUT", "x")
    assert (create.method, create.resource_type) == ("POST", "Bundle")


@pytest.mark.parametrize(
    ("more", "resource", "sender"),
    [
        ({"identifier": {"system": "urn:meridian:message:LIS%7CLAB"}}, {"resourceType": "Patient"}, "LIS|LAB"),
        ({}, {"resourceType": "MessageHeader", "source": {"name": "LIS"}}, "LIS"),
        ({}, {"resourceType": "MessageHeader", "source": {"endpoint": "urn:lis"}}, "urn:lis"),
        ({}, {"resourceType": "Patient"}, ""),
    ],
)
def test_the_sender_is_found(more: dict[str, object], resource: dict[str, object], sender: str) -> None:
    assert requests.read(bundle(entry("POST", str(resource["resourceType"]), resource), **more)).sender == sender


def test_a_variant_is_a_row() -> None:
    """Its components become columns; other observations have none."""
    concept = {"coding": [{"system": "http://loinc.org", "code": "69548-6"}]}
    component = [
        {"code": {"coding": [{"code": "69551-0"}]}, "valueString": "T"},
        {"code": {"coding": [{"code": "81254-5"}]}, "valueRange": {"low": {"value": 117559593}}},
        {"code": {"coding": [{"code": "48018-6"}]}, "valueCodeableConcept": {"coding": [{"code": "HGNC:1884", "display": "CFTR"}]}},
    ]
    observation = {"resourceType": "Observation", "code": concept, "component": component}
    found = {table.name: rows for table, rows in extraction.rows(shipped(), observation, UTC)}
    (variant,) = found["genomic_variant"]
    assert (variant["alt_allele"], variant["start_position"], variant["gene_display"]) == ("T", 117559593, "CFTR")
    assert len(found["observation_component"]) == 3
    other = {table.name: rows for table, rows in extraction.rows(shipped(), {**observation, "code": {"text": "x"}}, UTC)}
    assert other["genomic_variant"] == []
