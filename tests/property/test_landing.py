"""However Bundles are grouped and repeated, the tables are the same, and agree with the JSON that they came from."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from adapters.fhir.outcome import Answer
from engine.errors import PermanentDelivery
from engine.message import Receipt
from tests.support.fhir import open_repository
from tests.support.landing import Landing, check, parcel

NAMES = st.sampled_from(["a", "b", "c"])
TYPES = st.sampled_from(["Patient", "Encounter", "Observation", "Device"])
DECIMALS = st.sampled_from([5.9, 139, 1e-7, 12345678.5])
TEXTS = st.sampled_from(["x", "Ünïcode 林", "a'b\"c\\", ""])


@st.composite
def resources(draw: Any, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": kind, "identifier": [{"system": "urn:s", "value": draw(NAMES)}]}
    if draw(st.booleans()):
        made["identifier"].append({"value": draw(st.sampled_from(["d", "e"]))})
    if kind == "Patient":
        made["name"] = [{"family": draw(TEXTS), "given": draw(st.lists(TEXTS, max_size=2))}]
        made["birthDate"] = draw(st.sampled_from(["1971", "1971-03", "1971-03-04"]))
    elif kind == "Encounter":
        made["subject"] = {"reference": draw(st.sampled_from(["urn:uuid:one", "Patient?identifier=urn:s|a", "Patient/a", "http://x/y"]))}
    elif kind == "Observation":
        made["valueQuantity"] = {"value": draw(DECIMALS), "unit": draw(TEXTS)}
        made["component"] = [{"valueInteger": number} for number in range(draw(st.integers(0, 3)))]
        made["subject"] = {"reference": "urn:uuid:one"}
    return made


@st.composite
def entries(draw: Any, full_url: str) -> dict[str, Any]:
    kind, name = draw(TYPES), draw(NAMES)
    match draw(st.sampled_from(["put", "put by", "post", "post by", "post by", "delete", "delete by"])):
        case "put":
            return entry(full_url, "PUT", f"{kind}/{name}", {**draw(resources(kind)), "id": name})
        case "put by":
            return entry(full_url, "PUT", f"{kind}?identifier=urn:s|{name}", draw(resources(kind)))
        case "post":
            return entry(full_url, "POST", kind, draw(resources(kind)))
        case "post by":
            return entry(full_url, "POST", kind, draw(resources(kind)), ifNoneExist=f"identifier=urn:s|{name}")
        case "delete":
            return entry("", "DELETE", f"{kind}/{name}")
        case _:
            return entry("", "DELETE", f"{kind}?identifier={draw(st.sampled_from(['a', 'b', 'd', 'e']))}")


def entry(full_url: str, method: str, url: str, resource: Any = None, **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if full_url:
        made["fullUrl"] = f"urn:uuid:{full_url}"
    return made if resource is None else {**made, "resource": resource}


@st.composite
def bundles(draw: Any) -> bytes:
    made = [draw(entries(name)) for name in draw(st.sampled_from([("one",), ("one", "two"), ("one", "two", "three")]))]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": made}, ensure_ascii=False).encode()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, to be copied: making them takes longer than all that is done with them."""
    file = tmp_path_factory.mktemp("landing") / "empty.db"
    with Landing(make_url(f"sqlite:///{file}")) as landing:
        assert landing.land() == []
        with landing.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_grouping_and_repetition_make_no_difference(empty: Path, data: st.DataObject) -> None:
    """One by one, against groups of any size in which what came before comes again."""
    bodies = data.draw(st.lists(bundles(), min_size=1, max_size=8))
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "1.db", Path(folder) / "2.db"
        shutil.copy(empty, first)
        shutil.copy(empty, second)
        with Landing(make_url(f"sqlite:///{first}")) as alone, Landing(make_url(f"sqlite:///{second}")) as grouped:
            parcels = [parcel(number, body) for number, body in enumerate(bodies, 1)]
            wanted = [alone.writer.write([one])[0] for one in parcels]
            check(alone)
            done = 0
            while done < len(parcels):
                size = data.draw(st.integers(1, len(parcels) - done))
                again = data.draw(st.lists(st.sampled_from(range(done)), max_size=3)) if done else []
                landed = [number for number in again if isinstance(wanted[number], Receipt)]  # a refusal is not remembered
                results = grouped.writer.write([*(parcels[number] for number in landed), *parcels[done : done + size]])
                for number, result in zip([*landed, *range(done, done + size)], results, strict=True):
                    same(result, wanted[number])
                done += size
            assert grouped.everything() == alone.everything()


def same(result: Any, wanted: Any) -> None:
    if isinstance(wanted, PermanentDelivery):
        assert isinstance(result, PermanentDelivery)
        assert (result.text, result.location) == (wanted.text, wanted.location)
    else:
        assert result == wanted


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies=st.lists(bundles(), min_size=1, max_size=5))
def test_the_same_bundles_again_under_other_keys_change_nothing_that_is_updated(empty: Path, bodies: list[bytes]) -> None:
    """A Bundle whose last entry per resource is what is there leaves no version: only what differs makes one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "1.db"
        shutil.copy(empty, file)
        with Landing(make_url(f"sqlite:///{file}")) as landing:
            landing.land(bodies[-1])
            puts = all(one["request"]["method"] == "PUT" for one in json.loads(bodies[-1])["entry"])
            before = landing.rows("resource_version")
            landing.land(bodies[-1], first=100)
            check(landing)
            if puts and not _moves(bodies[-1]):
                assert landing.rows("resource_version") == before


def _moves(body: bytes) -> bool:
    """Whether an entry changes what itself or another is found by."""
    for one in json.loads(body)["entry"]:
        url, _, condition = one["request"]["url"].partition("?identifier=urn:s|")
        if condition and condition != one["resource"]["identifier"][0]["value"]:
            return True
        if (
            len({other["request"]["url"].partition("?")[0].partition("/")[0] for other in json.loads(body)["entry"]}) > 1
            or url == "Encounter"
        ):
            return True
    return False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(bodies=st.lists(bundles(), min_size=1, max_size=8))
def test_the_outcome_is_that_of_the_repository(empty: Path, bodies: list[bytes]) -> None:
    """The node's own FHIR server, given the same Bundles, refuses the same ones and has the same resources, whatever they are called."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "1.db"
        shutil.copy(empty, file)
        repository = open_repository(Path(folder) / "repository.db")
        with Landing(make_url(f"sqlite:///{file}")) as landing:
            for number, body in enumerate(bodies, 1):
                (answer,) = repository.apply([(f"k{number}", body)])
                (outcome,) = landing.land(body, first=number)
                assert isinstance(outcome, Receipt) == isinstance(answer, Answer)
            repository.close()
            landed = {
                (kind, name): json.loads(content)
                for table in landing.layout.tables
                if table.of_resources
                for kind, name, content in _current(landing, table)
            }
        kept = {}
        with closing(sqlite3.connect(Path(folder) / "repository.db")) as database:
            for kind, name, content in database.execute("SELECT type, id, body FROM resource WHERE body IS NOT NULL"):
                kept[kind, name] = json.loads(content)
    assert _named_alike(landed) == _named_alike(kept)


def _current(landing: Landing, table: Any) -> list[tuple[str, str, str]]:
    if table.of_any:
        found: list[tuple[str, str, str]] = landing.rows(table.name, "resource_type", "id", "content", deleted=False)
        return found
    return [(table.resource, *row) for row in landing.rows(table.name, "id", "content", deleted=False)]


def _named_alike(resources: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """Their content; ids given by a server, which nobody else can know, are left out, also where they are referred to."""
    given = {"a", "b", "c"}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name not in ("id", "meta")}
        if isinstance(value, list):
            return [plain(item) for item in value]
        kind, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
        return f"{kind}/(given)" if slash and kind.isalpha() and name not in given else value

    return sorted(
        f"{kind} {name if name in given else ''} {json.dumps(plain(one), sort_keys=True)}" for (kind, name), one in resources.items()
    )
