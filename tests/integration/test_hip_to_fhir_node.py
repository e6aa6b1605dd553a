"""The hospital platform's messages on a running node: answered, mapped in its worker processes, in its repository."""

from __future__ import annotations

import sqlite3
import urllib.request
from pathlib import Path

from engine.bench.loopback import HOST, free_port
from engine.formats import soap
from tests.support.hip_files import MAPPED, called
from tests.support.sites import Site
from tests.support.waiting import until


def post(port: int, body: bytes) -> str:
    """Whether the answer says AA or AE."""
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    with urllib.request.urlopen(urllib.request.Request(f"http://{HOST}:{port}/hip", body, headers), timeout=60) as heard:
        (result,) = soap.read(heard.read()).payload
    text = result.text or ""
    return "AA" if 'typeCode="AA"' in text else "AE" if 'typeCode="AE"' in text else text


def kinds(site: Site) -> dict[str, int]:
    """How many resources of each type the repository has."""
    (file,) = (site.folder / "data").rglob("*fhir*.db")
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return dict(database.execute("SELECT type, count(*) FROM resource GROUP BY type"))
    finally:
        database.close()


def test_a_message_of_every_service(tmp_path: Path) -> None:
    port = free_port()
    site = Site(
        tmp_path,
        source={"hip": {"listen": f"{HOST}:{port}", "validation": "off"}},
        map="hip-to-fhir",
        destinations=[{"name": "repository", "fhir_repository": {}}],
    )
    with site.running():
        for service in MAPPED:
            assert post(port, called(service)) == "AA", service
        until(lambda: len(site.delivered()) + len(site.dead()) == len(MAPPED), "every message delivered")
    assert site.dead() == {}
    found = kinds(site)
    assert (found["Patient"], found["Task"], found["Appointment"]) == (3, 2, 3)
