"""A running node: HL7 v2 comes in over MLLP, is mapped to FHIR, and is landed in tables, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.landing import KINDS, Landing, check, database, options
from tests.support.mllp import msa
from tests.support.mllp_line import Line
from tests.support.results import result
from tests.support.sites import Site
from tests.support.waiting import until


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_landed(tmp_path: Path, kind: str) -> None:
    """Each once, though one is sent twice; what the database refuses is a dead letter that names the constraint."""
    with database(kind) as made:
        url = made.set(database=str(tmp_path / "site/data/landing.db")) if kind == "sqlite" else made
        written = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
        tables = {"connection": written, "zone": "Asia/Shanghai", **({"schema": "fhir"} if kind == "postgresql" else {})}
        site = Site(tmp_path / "site", map="hl7v2-to-fhir", destinations=[{"name": "tables", "fhir_tables": tables, "order": "by patient"}])
        with site.running(), Line(site.port) as line:
            for number in (1, 2, 3, 3, 4):
                assert msa(line.ask(result(number))).startswith("AA")
            until(lambda: len(site.delivered()) == 4, "the landing of four messages")
        assert (sorted(site.delivered()), site.waiting(), site.dead()) == (["R1", "R2", "R3", "R4"], 0, {})
        with Landing(url, zone="Asia/Shanghai") as landing:
            assert sorted(landing.rows("landed_message", "control_id")) == ["R1", "R2", "R3", "R4"]
            assert sorted(landing.rows("v_result", "value_text", sender="LIS|LAB")) == ["4.1", "4.2", "4.3", "4.4"]
            assert sorted(landing.rows("v_order_report", "placer", "report_status")) == [(f"O{n}", "final") for n in range(1, 5)]
            (received,) = landing.rows("landed_message", "channel", control_id="R1")
            assert received == "lines/tables"
            check(landing)


def test_options_are_checked() -> None:
    """What a database cannot do is said before anything runs."""
    for wrong, said in (
        ({"schema": "fhir"}, "only PostgreSQL has schemas"),
        ({"zone": "Beijing Time"}, "not a time zone"),
        ({"zone": "Asia"}, "not a time zone"),
        ({"schema": 'a"b'}, "not the name of a schema"),
        ({"group": 0}, "not a whole number in range"),
    ):
        with pytest.raises(ValueError, match=said):
            options("sqlite:///x.db", **wrong)
    with pytest.raises(ValueError, match="PostgreSQL, MariaDB or SQLite"):
        options("mssql://h/d")
