"""``meridian doctor``: sites that are well, and what it says of those that are not."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.soap.hip.examination import DOCUMENTS
from engine.bench.loopback import HOST, free_port
from engine.cli import surroundings
from engine.cli.parts import Part
from engine.examination import Examining
from engine.formats.hip import SERVICES
from engine.registry import adapter
from engine.store.schema import NodeLock
from tests.support.cli import Said, meridian
from tests.support.ports import named_ports
from tests.support.sites import Site

EMPTY_SCHEMA = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"/>'
Found = list[tuple[str, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    return meridian(monkeypatch, capfd)


@pytest.fixture
def examined(cli: Callable[..., Said]) -> Callable[..., tuple[int, Found]]:
    """Level, subject and text of each finding, and the exit code."""

    def run(site: Path, *more: str) -> tuple[int, Found]:
        said = cli("doctor", site, "--json", *more)
        found: list[dict[str, Any]] = json.loads(said.out)["findings"]
        return said.code, [(one["level"], one["subject"], one["text"]) for one in found]

    return run


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something else listens."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def of(found: Found, subject: str) -> list[tuple[str, str]]:
    return [(level, text) for level, about, text in found if about == subject]


def hip(folder: Path, **options: object) -> Site:
    """A site with an endpoint of the hospital platform."""
    return Site(folder, source={"hip": {"listen": f"{HOST}:{free_port()}", **options}})


class TestHealthy:
    def test_a_new_site_is_well(self, cli: Callable[..., Said], tmp_path: Path) -> None:
        assert cli("init", tmp_path / "site").code == 0
        with named_ports():
            said = cli("doctor", tmp_path / "site")
        assert said.code == 0
        assert "OK   configuration: channels: first\n" in said.out
        assert said.out.splitlines()[-1].endswith("0 WARN, 0 FAIL")

    def test_a_node_that_has_run_and_stopped(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        site = Site(tmp_path)
        with site.running():
            pass
        code, found = examined(tmp_path)
        assert code == 0
        assert of(found, "store") == [("OK", of(found, "store")[0][1])]
        assert "no damage found" in of(found, "store")[0][1]
        assert {text.rpartition(") ")[2] for _, text in of(found, "ports")} == {"is free"}

    def test_a_node_that_runs(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        """Its ports are taken, by itself; the store is looked through beside it."""
        site = Site(tmp_path)
        with site.running():
            code, found = examined(tmp_path)
        assert code == 0
        assert [text.rpartition(") ")[2] for _, text in of(found, "ports")] == ["is in use, the node runs"] * 2
        assert "no damage found" in of(found, "store")[0][1]


class TestBroken:
    def test_no_site_at_all(self, cli: Callable[..., Said], tmp_path: Path) -> None:
        said = cli("doctor", tmp_path)
        assert said.code == 2
        assert "make a site with: meridian init" in said.err

    def test_a_channel_that_cannot_be_read(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        """The rest is looked at all the same."""
        site = Site(tmp_path)
        site._write("channels/lines.yaml", {"name": "lines", "source": {"mlpp": {}}})
        code, found = examined(tmp_path)
        assert code == 1
        assert of(found, "configuration")[0][0] == "FAIL"
        assert of(found, "disk")[0][0] == "OK"

    def test_a_damaged_store(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        site = Site(tmp_path)
        with site.running():
            pass
        (tmp_path / "data" / "meridian.db").write_bytes(b"not a database" * 1000)
        code, found = examined(tmp_path)
        assert code == 1
        assert of(found, "store")[0][0] == "FAIL"
        assert "cannot be read: file is not a database" in of(found, "store")[0][1]

    def test_a_store_with_a_damaged_page(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        site = Site(tmp_path)
        with site.running():
            pass
        file = tmp_path / "data" / "meridian.db"
        content = bytearray(file.read_bytes())
        content[4096:8192] = os.urandom(4096)
        file.write_bytes(content)
        code, found = examined(tmp_path)
        assert (code, of(found, "store")[0][0]) == (1, "FAIL")

    def test_a_full_disk(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Site(tmp_path)
        free = surroundings.shutil.disk_usage(tmp_path)
        for left, level in ((100 << 20, "FAIL"), (900 << 20, "WARN"), (2 << 30, "OK")):
            monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda _, left=left: free._replace(free=left))
            code, found = examined(tmp_path)
            assert (code, of(found, "disk")[0][0]) == (int(level == "FAIL"), level)

    def test_a_port_that_another_program_has(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, taken: int) -> None:
        Site(tmp_path, source={"mllp": {"listen": f"{HOST}:{taken}"}})
        code, found = examined(tmp_path)
        assert code == 1
        assert ("FAIL", f"{HOST}:{taken} (lines) is taken by another program") in of(found, "ports")

    def test_a_port_that_a_part_of_the_source_listens_on(
        self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, taken: int
    ) -> None:
        """A server of the source's own."""
        users = {"county": {"public_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJuqjSG4xUm5wlmYQBQD9qfB2kcHDlCnS2Wq9fGvzcJX"]}}
        serve = {"listen": f"{HOST}:{taken}", "host_key": "k", "folder": "drop", "users": users}
        Site(tmp_path, source={"file": {"serve": serve, "format": "hl7-batch"}})
        assert ("FAIL", f"{HOST}:{taken} (lines) is taken by another program") in of(examined(tmp_path)[1], "ports")

    def test_an_address_of_another_machine(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        Site(tmp_path, source={"mllp": {"listen": "192.0.2.1:2575"}})
        code, found = examined(tmp_path)
        assert code == 1
        assert any(level == "FAIL" and "192.0.2.1:2575" in text for level, text in of(found, "ports"))

    def test_a_node_that_runs_with_another_configuration(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        Site(tmp_path)
        (tmp_path / "data").mkdir()
        lock = NodeLock(tmp_path / "data")
        try:
            code, found = examined(tmp_path)
        finally:
            lock.release()
        assert code == 0
        assert {level for level, _ in of(found, "ports")} == {"WARN"}

    def test_tls_without_certificates(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        Site(tmp_path, {"tls": {}})
        code, found = examined(tmp_path)
        assert code == 1
        assert [level for level, _ in of(found, "certificates")] == ["FAIL", "FAIL"]

    def test_a_clock_that_went_back(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        Site(tmp_path)
        (tmp_path / "data").mkdir()
        written = tmp_path / "data" / "meridian.db-wal"
        written.touch()
        os.utime(written, (4e9, 4e9))
        code, found = examined(tmp_path)
        assert (code, of(found, "clock")[0][0]) == (1, "FAIL")

    def test_a_package_that_is_missing(
        self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that the adapter loads only when it runs."""
        Site(tmp_path)
        monkeypatch.setattr(adapter("mllp"), "requires", ("no_such_package",), raising=False)
        code, found = examined(tmp_path)
        assert code == 1
        assert of(found, "lines packages") == [("FAIL", "the package no_such_package is not installed")]


class TestPeers:
    def site(self, folder: Path, address: str) -> None:
        Site(folder, destinations=[{"name": "lab", "mllp": {"connect": address}}])

    def test_a_name_that_nobody_knows(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        self.site(tmp_path, "lab.invalid:2575")
        code, found = examined(tmp_path)
        assert (code, of(found, "peers")) == (0, [("WARN", "lines/lab: nobody knows the name lab.invalid")])

    def test_nobody_is_connected_to_without_being_asked(
        self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, taken: int
    ) -> None:
        self.site(tmp_path, f"{HOST}:{taken}")
        assert of(examined(tmp_path)[1], "peers") == [("OK", f"lines/lab: {HOST} is known")]
        assert of(examined(tmp_path, "--connect")[1], "peers") == [("OK", f"lines/lab: {HOST}:{taken} takes connections")]

    def test_a_peer_that_is_down(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        self.site(tmp_path, f"{HOST}:{free_port()}")
        code, found = examined(tmp_path, "--connect")
        assert code == 0
        assert of(found, "peers")[0][0] == "WARN"
        assert "cannot be reached: Connection refused" in of(found, "peers")[0][1]


class TestSchemas:
    """The adapter `hip` looks at its folder of schemas."""

    def fill(self, folder: Path) -> None:
        for kind, names in (("services", SERVICES), ("cdas", DOCUMENTS)):
            (folder / kind).mkdir(parents=True)
            for name in names:
                (folder / kind / f"{name}.xsd").write_text(EMPTY_SCHEMA)

    def test_it_is_asked_through_the_contract(self) -> None:
        assert isinstance(adapter("hip"), Examining)
        assert not isinstance(adapter("mllp"), Examining)

    def test_no_folder_is_named(self, cli: Callable[..., Said], tmp_path: Path) -> None:
        """Said by `check` too, as a warning at the line."""
        hip(tmp_path)
        said = cli("doctor", tmp_path)
        assert said.code == 0
        assert "WARN lines schemas: messages are not checked: no folder of schemas is named\n     -> put the standard's" in said.out
        checked = cli("check", tmp_path)
        assert (checked.code, "warning: channels/lines.yaml" in checked.out) == (0, True)
        assert "no folder of schemas is named; put the standard's services/*.xsd" in checked.out

    def test_files_are_missing(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        hip(tmp_path, schemas="wst846")
        self.fill(tmp_path / "wst846")
        (tmp_path / "wst846" / "services" / "OrderInfoAdd.xsd").unlink()
        code, found = examined(tmp_path)
        text = f"1 schemas are missing in {tmp_path}/wst846/services: OrderInfoAdd; their messages are not checked"
        assert (code, of(found, "lines schemas")) == (0, [("WARN", text)])

    def test_files_are_missing_for_strict_validation(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        """It says that what breaks its schema is refused; without one, everything is taken."""
        hip(tmp_path, schemas="wst846", validation="strict")
        self.fill(tmp_path / "wst846")
        (tmp_path / "wst846" / "services" / "OrderInfoAdd.xsd").unlink()
        code, found = examined(tmp_path)
        assert (code, [level for level, _ in of(found, "lines schemas")]) == (1, ["FAIL"])

    def test_a_folder_that_is_not_there(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        hip(tmp_path, schemas="wst846")
        assert [text.split(" in ")[0] for _, text in of(examined(tmp_path)[1], "lines schemas")] == [
            "69 schemas are missing",
            "53 schemas are missing",
        ]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("<html/>", "is no schema that can be used"),
            ("not XML", "is no schema: not well-formed"),
            ('<!DOCTYPE a SYSTEM "http://x/y.dtd">' + EMPTY_SCHEMA, "document type declaration"),
            (
                EMPTY_SCHEMA[:-2] + '><xs:import namespace="u" schemaLocation="http://example.org/a.xsd"/></xs:schema>',
                "refers to a place outside",
            ),
            (EMPTY_SCHEMA[:-2] + '><xs:include schemaLocation="../../channels/lines.yaml"/></xs:schema>', "lies outside"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path, content: str, why: str) -> None:
        """What it refers to is read only from its folder."""
        hip(tmp_path, schemas="wst846")
        self.fill(tmp_path / "wst846")
        (tmp_path / "wst846" / "services" / "OrderInfoAdd.xsd").write_text(content)
        code, found = examined(tmp_path)
        (one,) = of(found, "lines schemas")
        assert (code, one[0], why in one[1]) == (1, "FAIL", True), one

    def test_a_whole_folder(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        hip(tmp_path, schemas="wst846")
        self.fill(tmp_path / "wst846")
        assert of(examined(tmp_path)[1], "lines schemas") == [("OK", f"all of {tmp_path}/wst846 are there and can be used")]

    def test_switched_off(self, examined: Callable[..., tuple[int, Found]], tmp_path: Path) -> None:
        hip(tmp_path, validation="off")
        assert of(examined(tmp_path)[1], "lines schemas") == []


def test_a_part_without_anything_to_say_has_no_findings(tmp_path: Path) -> None:
    spec = adapter("mllp").source_options
    assert spec is not None
    part = Part("lines", "source", "mllp", spec.defaults(listen=1), "channels/lines.yaml", tmp_path)
    assert (part.findings(), part.missing()) == ([], [])
