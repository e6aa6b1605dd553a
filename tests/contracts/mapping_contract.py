"""What every shipped mapping must do (engine.contracts.MappingRules and Mapper): inherit MappingContract and give it messages."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson

from engine import registry
from engine.errors import ConfigError, MessageError, ParseError, UnsupportedError

_ELSEWHERE = "import pickle, sys; mapper, bodies = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps([mapper.map(body).body for body in bodies]))"


def leaves(value: Any, path: str) -> Iterator[str]:
    """The path of every leaf below `value`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path


class MappingContract:
    """Mix into a TestCase that says what to map.

    `unsupported` are bodies with the stable HL7 code (table 0357) of their refusal, `lacking` bodies with the location that the refusal
    names; no refusal may hold a word of `secrets`, which stand in them. `overlay` is a site's table (its path below SITE/mappings), which
    must make `after` of `before` in the Bundle of the first body; `bad_overlay` one whose line `bad_line` is wrong.
    """

    mapping: ClassVar[str]
    bodies: ClassVar[list[bytes]]
    unsupported: ClassVar[list[tuple[bytes, str]]]
    undecodable: ClassVar[list[bytes]]
    lacking: ClassVar[list[tuple[bytes, str]]]
    secrets: ClassVar[list[str]]
    overlay: ClassVar[tuple[str, str]]
    before: ClassVar[bytes]
    after: ClassVar[bytes]
    bad_overlay: ClassVar[tuple[str, str]]
    bad_line: ClassVar[int]

    def resolves(self, body: bytes, source: str) -> bool:
        """Whether what a lineage row names as its source is in `body`."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.mapper = registry.mapping(self.mapping).compile(None)

    def site(self, table: str, text: str) -> Path:
        """A site's folder of mappings with one table in it."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)  # type: ignore[attr-defined]
        file = Path(folder.name) / table
        file.parent.mkdir(parents=True)
        file.write_text(text)
        return Path(folder.name)

    def refusal(self, body: bytes) -> MessageError:
        """The MessageError that `body` gives, in map and explain alike, with nothing of the message in its text."""
        said = []
        for attempt in (self.mapper.map, self.mapper.explain):
            try:
                attempt(body)
            except MessageError as error:
                said.append(error)
            else:
                raise AssertionError("was mapped")
        assert str(said[0]) == str(said[1])
        assert not any(secret in str(said[0]) for secret in self.secrets)
        return said[0]

    def test_the_same_bytes_give_the_same_bytes(self) -> None:
        for body in self.bodies:
            assert self.mapper.map(body).body == self.mapper.map(body).body

    def test_the_order_of_messages_changes_nothing(self) -> None:
        """What is remembered between messages shows in none of them."""
        first = {body: self.mapper.map(body).body for body in self.bodies}
        assert {body: self.mapper.map(body).body for body in reversed(self.bodies)} == first

    def test_another_process_gives_the_same_bytes(self) -> None:
        """The mapper is pickled into workers; the order of a set there is another one."""
        ours = [self.mapper.map(body).body for body in self.bodies]
        for seed in ("1", "4711"):
            done = subprocess.run(
                [sys.executable, "-c", _ELSEWHERE],
                input=pickle.dumps((self.mapper, self.bodies)),
                capture_output=True,
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
                cwd=Path(__file__).resolve().parents[2],
            )
            assert pickle.loads(done.stdout) == ours

    def test_is_pickled_by_name(self) -> None:
        """The tables themselves do not travel; a site's are compiled again from its folder."""
        site = registry.mapping(self.mapping).compile(self.site(*self.overlay))
        for mapper in (self.mapper, site):
            pickled = pickle.dumps(mapper)
            assert len(pickled) < 1000
            assert pickle.loads(pickled).map(self.bodies[0]).body == mapper.map(self.bodies[0]).body

    def test_explain_is_of_what_is_sent(self) -> None:
        for body in self.bodies:
            assert self.mapper.explain(body)[0] == self.mapper.map(body)

    def test_every_element_has_its_source(self) -> None:
        for body in self.bodies:
            rendition, lineage = self.mapper.explain(body)
            known = {line.target: line for line in lineage if line.target}
            for number, entry in enumerate(orjson.loads(rendition.body)["entry"]):
                resource = {name: value for name, value in entry["resource"].items() if name not in ("resourceType", "id")}
                for path in leaves(resource, f"entry[{number}].{entry['resource']['resourceType']}"):
                    assert path in known, f"{path} has no lineage"
                    assert known[path].rule, path
                    assert self.resolves(body, known[path].source), f"{path} <- {known[path].source}"

    def test_every_loss_has_its_source_and_reason(self) -> None:
        for body in self.bodies:
            for line in self.mapper.explain(body)[1]:
                if not line.target:
                    assert line.rule
                    assert self.resolves(body, line.source) or re.fullmatch(r"[A-Z][A-Z0-9]{2}", line.source), line

    def test_references_are_closed_and_full_urls_unique(self) -> None:
        for body in self.bodies:
            text = self.mapper.map(body).body
            urls = [entry["fullUrl"] for entry in orjson.loads(text)["entry"]]
            assert len(set(urls)) == len(urls)
            assert {found.decode() for found in re.findall(rb'"reference":"(urn:uuid:[^"]*)"', text)} <= set(urls)

    def test_unsupported_types_are_refused(self) -> None:
        for body, code in self.unsupported:
            error = self.refusal(body)
            assert isinstance(error, UnsupportedError)
            assert (error.code, error.hl7_code) == ("message.unsupported", code)
            assert error.location

    def test_what_cannot_be_decoded_is_refused(self) -> None:
        for body in self.undecodable:
            assert isinstance(self.refusal(body), ParseError)

    def test_what_is_lacking_is_named(self) -> None:
        for body, location in self.lacking:
            assert self.refusal(body).location == location

    def test_a_sites_rows_replace_shipped_ones(self) -> None:
        site = registry.mapping(self.mapping).compile(self.site(*self.overlay))
        shipped, own = self.mapper.map(self.bodies[0]).body, site.map(self.bodies[0]).body
        assert self.before in shipped
        assert self.after not in shipped
        assert self.after in own
        assert self.before not in own

    def test_lineage_names_a_sites_rows(self) -> None:
        site = registry.mapping(self.mapping).compile(self.site(*self.overlay))
        assert any("(site)" in line.rule for line in site.explain(self.bodies[0])[1])

    def test_a_sites_fault_is_named_with_file_and_line(self) -> None:
        folder = self.site(*self.bad_overlay)
        try:
            registry.mapping(self.mapping).compile(folder)
        except ConfigError as error:
            assert f"{folder / self.bad_overlay[0]}:{self.bad_line}: " in str(error)
        else:
            raise AssertionError("was compiled")
