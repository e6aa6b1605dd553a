"""Every example is a site that checks, whose tests pass, and whose page can be followed; two of them work together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certs import Authority
from channels import harness, load
from engine.cli.opened import now
from engine.demo.nodes import LedgerReader, NodeFolder, NodeProcess
from engine.demo.sites import free_ports
from tests.support.pages import ROOT, blocks, run

EXAMPLES = sorted(folder.parent for folder in (ROOT / "examples").glob("*/meridian.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_a_page_can_be_followed(example: Path, tmp_path: Path) -> None:
    """The commands of the README, `check` and `test` among them, in a copy of the site."""
    site = shutil.copytree(example, tmp_path / "site")
    (script,) = blocks(f"examples/{example.name}/README.md")
    output = run(script, site)
    assert "meridian check" in script
    assert "meridian test" in script
    assert "fine: " in output, output
    assert ", 0 failed" in output, output
    assert "warning" not in output, output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_every_channel_has_a_test_and_the_index_names_the_site(example: Path) -> None:
    """None is there only for show."""
    site = load(example, secrets=False)  # as `meridian test` does: nobody has the site's secrets here
    tested = {outcome.name.partition("/")[0] for outcome in harness.run(site)}
    assert tested == {channel.name for channel in site.channels}
    assert f"]({example.name}/)" in (ROOT / "examples/README.md").read_text(encoding="utf-8")


def test_a_broken_example_says_what_differs(tmp_path: Path) -> None:
    """A wrong LOINC code in the site's own table: the element, what was expected, what came, and exit code 1."""
    site = shutil.copytree(ROOT / "examples/local-mapping-rows", tmp_path / "site")
    table = site / "mappings/hl7v2-to-fhir/codes/tests.csv"
    table.write_text(table.read_text().replace("GLU,2345-7", "GLU,2339-0"))
    output = run("meridian test . && exit 9 || test $? = 1", site)
    assert "FAILED  results/glucose.hl7" in output
    (line,) = [line.strip() for line in output.splitlines() if '"2339-0"' in line]
    assert line.startswith("destinations.repository.entry[")
    assert line.endswith('(Observation).resource.code.coding[0].code: expected "2345-7", got "2339-0"')


class TogetherTests(TestCase):
    """The laboratory's results reach the platform, node to node, over mutual TLS."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.ports = dict(zip(("mllp", "fhir", "hospital", "platform"), free_ports(4), strict=True))
        authority = Authority.create(self.folder / "authority", "examples")
        for party, site in (("county-hospital", "lab-results-to-platform"), ("province-platform", "platform")):
            shutil.copytree(ROOT / "examples" / site, self.folder / site)
            authority.issue(party, dns=("localhost",), out=self.folder / site / "certs")
        authority.issue("county-laboratory", out=self.folder / "laboratory")

    def node(self, site: str, http: int) -> NodeProcess:
        """On ports of its own, and quick to try again."""
        texts = {"2575": "mllp", "8443": "fhir", "9464": "hospital", "9465": "platform"}
        for file in (self.folder / site).rglob("*.yaml"):
            text = file.read_text(encoding="utf-8").replace("first: 1s", "first: 100ms")
            for port, name in texts.items():
                text = text.replace(port, str(self.ports[name]))
            file.write_text(text, encoding="utf-8")
        process = NodeProcess(NodeFolder(site, self.folder / site, http), reactor)
        process.start()
        self.addCleanup(process.stop)
        return process

    @inlineCallbacks
    def test_a_result_arrives(self):  # type: ignore[no-untyped-def]
        """Sent by the laboratory, AA; the platform's ledger shows it delivered into its repository."""
        hospital = self.node("lab-results-to-platform", self.ports["hospital"])
        platform = self.node("platform", self.ports["platform"])
        yield hospital.ready()
        yield platform.ready()
        message = self.folder / "lab-results-to-platform/tests/lab-results/potassium.hl7"
        output = yield deferToThread(
            run, f"meridian send --to localhost:{self.ports['mllp']} --certs laboratory --peer county-hospital {message}", self.folder
        )
        self.assertIn(": AA", output)
        yield from self.delivered("lab-results-to-platform", hospital)
        yield from self.delivered("platform", platform)

    def delivered(self, site: str, process: NodeProcess):  # type: ignore[no-untyped-def]
        """Ends when the site's ledger has one message, delivered."""
        reader = LedgerReader(process.folder, reactor, now)
        yield reader.open()
        while True:
            lines = yield reader.read()
            if any(line.received == line.delivered == 1 and not line.destination for line in lines):
                break
        yield reader.close()


def test_expectations_are_json_in_git_form() -> None:
    """As `meridian test --update` writes them, so that a later update shows only what has changed."""
    for file in (ROOT / "examples").rglob("*.expected.json"):
        assert json.loads(file.read_bytes()), file
        assert file.read_bytes().endswith(b"}\n"), file
