"""What a site may say of statements, what it is told when it is wrong, and the statements that each database gets."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry as dialects

from adapters.database.statements.binding import Content, Item
from adapters.database.statements.compiled import compiled
from adapters.database.statements.conversions import Misfit, converted, for_driver
from adapters.database.statements.options import DESTINATION, content_paths
from adapters.database.statements.outbox import ddl, digest_of
from adapters.database.statements.sql import checked, parameters
from adapters.database.statements.upserts import Upsert
from engine.errors import Fault, PermanentDelivery
from engine.formats.rows import Record, write
from engine.message import FHIR_JSON, HL7V2, ROWS, Parcel
from engine.options import Faulty, Place

SHANGHAI = ZoneInfo("Asia/Shanghai")
HL7 = (
    b'MSH|^~\\&|LAB|H|X|Y|20260101||ORU^R01|7|P|2.5||||||UNICODE UTF-8\rPID|1||P-1^^^H~P-2^^^I||M\xc3\xbcller^A||""|M\r'
    b"OBX|1|NM|GLU||5.10|mmol/L\rOBX|2|ST|TXT||high\rOBX|3|NM|K||4.0|mmol/L\r"
)


def settings(**options: Any) -> Any:
    return DESTINATION.defaults(**{"connection": "sqlite:///x.db", "repeatable": True, **options})


def fault(**options: Any) -> str:
    faults: list[Fault] = []
    DESTINATION.parse({"connection": "sqlite:///x.db", "repeatable": True, **options}, Place("c.yaml", 7), faults)
    assert faults, "nothing was wrong"
    return "\n".join(map(str, faults))


def parcel(body: bytes = HL7, content_type: str = HL7V2, **more: Any) -> Parcel:
    return Parcel(1, 1, body, content_type, "ORU^R01", "7", "key-7", "P-1", received_at=1_700_000_000_000_000, **more)


def rows(statement: dict[str, Any], given: Parcel | None = None, backend: str = "postgresql", **options: Any) -> Any:
    """What the statement binds of a message."""
    made = settings(statements=[statement], **options)
    content = Content(given or parcel(), "c/lis", lambda ref: Path("none"), made.tables)
    return compiled(made)[0].rows(content, backend)


# --- the text of a statement ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; DROP TABLE x",
        "UPDATE a SET b = :b; UPDATE c SET d = :d;",
        "INSERT INTO x VALUES ('${PID-3}')",
        "   ",
        "-- nothing",
    ],
)
def test_one_statement_into_which_nothing_is_filled(text: str) -> None:
    with pytest.raises(Faulty):
        checked(text)


def test_semicolons_in_quotes_and_at_the_end_are_none() -> None:
    assert (
        checked("UPDATE a SET b = ';' -- ; and\n WHERE \"c;d\" = :x /* ; */ ;")
        == "UPDATE a SET b = ';' -- ; and\n WHERE \"c;d\" = :x /* ; */"
    )
    assert checked("SELECT $$a;b$$") == "SELECT $$a;b$$"


def test_parameters_are_those_that_sqlalchemy_binds() -> None:
    text = "UPDATE a SET b = :b, c = :c, x = y::int, d = to_char(:b, 'HH24') WHERE e = :e"
    assert parameters(text) == ["b", "c", "e"] == list(dict.fromkeys(sa.text(text)._bindparams))
    with pytest.raises(Faulty, match="in quotes"):
        parameters("SELECT ':name'")
    with pytest.raises(Faulty, match="CAST"):
        parameters("SELECT :name::int")


# --- what is wrong in a channel ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            {"run": "UPDATE a SET b = :patient", "with": {"patinet": "x"}},
            "binds :patient, which `with` does not say (did you mean 'patinet'?)",
        ),
        ({"run": "UPDATE a SET b = 1", "with": {"b": "x"}}, "`with` says 'b', which the statement does not bind"),
        ({"run": "SELECT 1", "upsert": "t"}, "needs exactly one of run, upsert, procedure"),
        ({"upsert": "t", "with": {"a": "x"}}, "an upsert needs key"),
        ({"upsert": "t", "key": ["b"], "with": {"a": "x"}}, "`with` does not say the column 'b'"),
        ({"upsert": "t", "key": ["a"], "touches": "one", "with": {"a": "x"}}, "touches is for statements"),
        ({"run": "SELECT :a", "with": {"a": "${message.tpye}"}}, "did you mean 'message.type'?"),
        ({"run": "SELECT :a", "with": {"a": "${tables.sex}"}}, "there is no ${tables.sex}"),
        ({"run": "SELECT :a", "with": {"a": "${OBX[*]-5}"}}, "there is no each"),
        ({"run": "SELECT :a", "with": {"a": "x"}, "each": "OBX"}, "does not end in [*]"),
        ({"run": "SELECT 1", "when": ["message.sender == 'x'"]}, "does not know message.sender"),
        ({"run": "SELECT 1", "when": ["message.typ == 'x'"]}, "did you mean 'type'?"),
        ({"run": "SELECT :a", "with": {"a": {"value": "x", "type": "decimal"}}}, "the constant is no decimal"),
        ({"run": "SELECT :a", "with": {"a": {"value": "${x}", "type": "decimel"}}}, "did you mean 'decimal'?"),
        ({"run": "SELECT :a", "with": {"a": {"value": "${x}", "zone": "Asia/Shanghai"}}}, "zone is for the types"),
        ({"run": "missing.sql"}, "cannot read missing.sql"),
        ({"procedure": "p", "with": {"a b": "x"}}, "cannot be the name of a parameter"),
        ({"upsert": "t", "key": ["a"], "with": {"a": "x", 'b"; --': "y"}}, "is not the name of a column"),
    ],
)
def test_what_is_wrong_is_said(statement: dict[str, Any], said: str) -> None:
    assert said in fault(statements=[statement])


def test_a_statement_that_would_run_twice_is_not_taken_silently() -> None:
    insert = {"run": "INSERT INTO a VALUES (1)"}
    assert "would run again when a message comes again" in fault(statements=[insert], repeatable=False)
    assert settings(statements=[insert], repeatable=False, outbox="lis.applied").outbox.table == "lis.applied"
    assert settings(statements=[{"upsert": "t", "key": "a", "with": {"a": "x"}}], repeatable=False)


def test_a_statement_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "take.sql").write_text("UPDATE a\nSET b = :b;\n")
    node = {"connection": "sqlite:///x.db", "repeatable": True, "statements": [{"run": "take.sql", "with": {"b": "x"}}]}
    faults: list[Fault] = []
    made = DESTINATION.parse(node, Place("c.yaml", 1, folder=tmp_path), faults)
    assert (faults, made.statements[0].run) == ([], "UPDATE a\nSET b = :b")


def test_the_paths_that_it_looks_into_content_with() -> None:
    """Those of tables too, and of conditions."""
    made = settings(
        tables={"sex": {"of": "${PID-8}", "table": {"M": "1"}}},
        statements=[
            {"run": "SELECT :a, :b", "with": {"a": "${tables.sex}", "b": "${OBX[*]-5} ${message.type}"}, "each": "OBX[*]",
             "when": ["message['OBX[*]-2'] == 'NM'"]}
        ],
    )  # fmt: skip
    assert [path for _, path in content_paths(made)] == ["PID-8", "OBX[*]", "OBX[*]-5", "OBX[*]-2"]


# --- values --------------------------------------------------------------------------------------------


def test_values_of_hl7() -> None:
    statement = {
        "run": "SELECT :id, :second, :born, :sex, :none, :whole, :said",
        "with": {
            "id": "${PID-3[1].1}",
            "second": "${PID-3[2].1}",
            "born": "${PID-7}",
            "sex": "${tables.sex}",
            "none": "${PID-40}",
            "whole": {"value": "${content.base64}", "type": "binary"},
            "said": "${message.type} of ${PID-5.1}",
        },
    }
    tables = {"sex": {"of": "${PID-8}", "table": {"M": "1", "F": "2"}, "otherwise": "0"}}
    assert rows(statement, tables=tables) == [
        {"id": "P-1", "second": "P-2", "born": None, "sex": "1", "none": None, "whole": HL7, "said": "ORU^R01 of Müller"}
    ]


def test_each_of_several_with_a_condition() -> None:
    statement = {
        "run": "SELECT :n, :code, :value",
        "each": "OBX[*]",
        "when": "message['OBX[*]-2'] == 'NM'",
        "with": {
            "n": {"value": "${OBX[*]-1}", "type": "integer"},
            "code": "${tables.test}",
            "value": {"value": "${OBX[*]-5}", "type": "decimal"},
        },
    }
    tables = {"test": {"of": "${OBX[*]-3}", "table": {"GLU": "2345-7"}, "otherwise": "?"}}
    assert rows(statement, tables=tables) == [
        {"n": 1, "code": "2345-7", "value": Decimal("5.10")},
        {"n": 3, "code": "?", "value": Decimal("4.0")},
    ]
    assert rows({**statement, "each": "PID-3[*]", "when": [], "with": {"n": "${PID-3[*].1}", "code": "a", "value": 1}}) == [
        {"n": "P-1", "code": "a", "value": 1},
        {"n": "P-2", "code": "a", "value": 1},
    ]


def test_values_of_a_record_have_the_types_that_they_had() -> None:
    record = Record(
        "lis",
        "lab.result",
        {"id": 7, "value": "1.50", "at": "2026-01-31T09:30:00", "raw": "AAE=", "none": None},
        details={"items": [{"code": "K", "amount": "2.0"}, {"code": "NA", "amount": None}]},
        types={"value": "decimal", "at": "datetime", "raw": "binary", "items.amount": "decimal"},
    )
    given = parcel(write(record), ROWS)
    names = {"id": "${row.id}", "v": "${row.value}", "at": "${row.at}", "raw": "${row.raw}", "none": "${row.none}"}
    one = {"run": "SELECT :id, :v, :at, :raw, :none", "with": names}
    assert rows(one, given) == [{"id": "7", "v": Decimal("1.50"), "at": datetime(2026, 1, 31, 9, 30), "raw": b"\0\1", "none": None}]
    placed = {"run": "SELECT :at", "with": {"at": {"value": "${row.at}", "type": "instant", "zone": "Asia/Shanghai"}}}
    assert rows(placed, given) == [{"at": datetime(2026, 1, 31, 1, 30, tzinfo=UTC)}]
    each = {
        "run": "SELECT :c, :a",
        "each": "details.items[*]",
        "with": {"c": "${details.items[*].code}", "a": "${details.items[*].amount}"},
    }
    assert rows(each, given) == [{"c": "K", "a": Decimal("2.0")}, {"c": "NA", "a": None}]


def test_each_resource_of_a_bundle() -> None:
    bundle = b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}},{"resource":{"resourceType":"Observation","id":"o"}}]}'
    statement = {
        "run": "SELECT :id",
        "each": "entry[*]",
        "when": "message['entry[*].resource.resourceType'] == 'Observation'",
        "with": {"id": {"value": "${entry[*].resource.id}", "required": True}},
    }
    assert rows(statement, parcel(bundle, FHIR_JSON)) == [{"id": "o"}]


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ({"value": "${PID-40}", "required": True}, "required"),
        ({"value": "${PID-5.1}", "type": "integer"}, "is no integer"),
        ({"value": "${not a path}"}, "path"),
        ({"value": "${tables.sex}"}, "no row"),
    ],
)
def test_what_a_message_lacks_is_its_own_fault(binding: dict[str, Any], said: str) -> None:
    """The parameter is named, the value is not."""
    with pytest.raises(PermanentDelivery) as caught:
        rows({"run": "SELECT :a", "with": {"a": binding}}, tables={"sex": {"of": "${PID-8}", "table": {"F": "2"}}})
    assert said in str(caught.value)
    assert "ller" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (" 42 ", "integer", 42),
        ("1.50", "decimal", Decimal("1.50")),
        ("1e3", "float", 1000.0),
        ("Y", "boolean", True),
        ("否", "boolean", False),
        ("20260131", "date", date(2026, 1, 31)),
        ("2026-01-31T23:30:00Z", "date", date(2026, 1, 31)),
        ("0930", "time", time(9, 30)),
        ("20260131093000.5", "datetime", datetime(2026, 1, 31, 9, 30, 0, 500000)),
        ("2026-01-31T01:30:00Z", "datetime", datetime(2026, 1, 31, 9, 30)),
        ("202601310930+0900", "instant", datetime(2026, 1, 31, 0, 30, tzinfo=UTC)),
        ("2026-01-31 09:30", "instant", datetime(2026, 1, 31, 1, 30, tzinfo=UTC)),
        ("AAE=", "binary", b"\0\1"),
        ('{"a":1.50}', "json", '{"a":1.50}'),
        (date(2026, 1, 31), "text", "2026-01-31"),
        (Decimal("1E+3"), "text", "1000"),
    ],
)
def test_conversions(text: Any, kind: str, value: Any) -> None:
    assert converted(text, kind, SHANGHAI) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.0", "integer"), ("１", "integer"), ("NaN", "decimal"), ("1,5", "decimal"), ("2026", "date"), ("20260230", "date"),
        ("202601", "datetime"), ("24:00", "time"), ("maybe", "boolean"), ("A", "binary"), ("{", "json"), ("", "integer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(text: str, kind: str) -> None:
    with pytest.raises(Misfit):
        converted(text, kind, SHANGHAI)


def test_local_times_that_a_zone_had_twice_or_never() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for text in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        with pytest.raises(Misfit, match="twice, or never"):
            converted(text, "instant", berlin)
    with pytest.raises(Misfit, match="zone"):
        converted("2026-01-31T09:30:00", "instant", None)
    assert converted("31.01.2026 09:30", "datetime", None, "%d.%m.%Y %H:%M") == datetime(2026, 1, 31, 9, 30)


def test_each_driver_gets_times_as_it_knows_them() -> None:
    at = datetime(2026, 1, 31, 9, 30, tzinfo=SHANGHAI)
    assert for_driver(at, "postgresql") is at
    assert for_driver(at, "mysql") == datetime(2026, 1, 31, 1, 30)
    assert for_driver(at, "sqlite") == "2026-01-31 09:30:00+08:00"
    assert for_driver(Decimal("1.50"), "sqlite") == "1.50"


# --- what each database gets ---------------------------------------------------------------------------

DIALECTS = ("postgresql", "mysql", "sqlite", "mssql", "oracle")


def sql(clause: Any, name: str, **options: Any) -> str:
    return " ".join(str(clause.compile(dialect=dialects.load(name)(), **options)).split())


def test_upserts_of_each_database() -> None:
    """With a reserved word as a column, which is quoted as each does it."""
    upsert = Upsert("lab.result", ["source", "order", "value", "made"], ["source", "order"], ["made"])
    assert [sql(upsert.statement(name), name) for name in DIALECTS[:3]] == [
        'INSERT INTO lab.result (source, "order", value, made) VALUES (%(source)s, %(order)s, %(value)s, %(made)s) '
        'ON CONFLICT (source, "order") DO UPDATE SET value = excluded.value',
        "INSERT INTO lab.result (source, `order`, value, made) VALUES (%s, %s, %s, %s) ON DUPLICATE KEY UPDATE value = VALUES(value)",
        'INSERT INTO lab.result (source, "order", value, made) VALUES (?, ?, ?, ?) ON CONFLICT (source, "order") DO UPDATE SET value = excluded.value',
    ]
    assert sql(upsert.update(), "mssql") == (
        "UPDATE lab.result SET value=:_value WHERE lab.result.source = :_source AND lab.result.[order] = :_order"
    )
    assert sql(upsert.update(), "oracle") == (
        'UPDATE lab.result SET value=:"_value" WHERE lab.result.source = :"_source" AND lab.result."order" = :"_order"'
    )
    assert sql(upsert.insert(), "oracle").startswith('INSERT INTO lab.result (source, "order", value, made) VALUES (:source, :"order"')


def test_a_row_of_which_the_key_is_all() -> None:
    upsert = Upsert("seen", ["id"], ["id"], [])
    assert sql(upsert.statement("postgresql"), "postgresql").endswith("ON CONFLICT (id) DO NOTHING")
    assert sql(upsert.statement("mysql"), "mysql").endswith("ON DUPLICATE KEY UPDATE id = VALUES(id)")


def test_procedures_of_each_database() -> None:
    made = compiled(settings(statements=[{"procedure": "lab.take", "with": {"id": "x", "n": 1}}]))[0]
    assert [str(made.clause(name)) for name in DIALECTS if name != "sqlite"] == [
        "CALL lab.take(:id, :n)",
        "CALL lab.take(:id, :n)",
        "EXEC lab.take :id, :n",
        "BEGIN lab.take(:id, :n); END;",
    ]
    made = compiled(settings(statements=[{"procedure": "lab.take", "returns": "table", "with": {"id": "x"}}]))[0]
    assert [str(made.clause(name)) for name in ("postgresql", "oracle")] == [
        "SELECT * FROM lab.take(:id)",
        "SELECT * FROM TABLE(lab.take(:id))",
    ]


@pytest.mark.parametrize("name", DIALECTS)
def test_the_outbox_of_each_database(name: str) -> None:
    made = ddl("lab.applied", dialects.load(name)())
    assert made.startswith("CREATE TABLE lab.applied")
    assert "PRIMARY KEY (digest, destination)" in made
    assert ("LONGBLOB" in made) == (name == "mysql")


def test_keys_that_a_database_would_take_for_the_same() -> None:
    assert len({digest_of(key) for key in ("a", "A", "a ", "ä", "a\ud800")}) == 5


def test_items_place_their_index_in_paths_alone() -> None:
    item = Item(Content(parcel(), "c/lis", lambda ref: Path("none"), {}), 2)
    assert item.value("OBX[*]-3") == "TXT"
    assert item.text("OBX[*]-40") == ""
    assert item.fact("type") == "ORU^R01"
