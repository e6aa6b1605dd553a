"""``meridian init``: a new site, ready to run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import typer

from certs import Authority
from channels import harness, load
from engine.cli import schema
from engine.errors import ConfigError

_LEVELS = {"hospital": "hospital", "platform": "province"}
_IGNORED = "data/\n*.key\n"


def command(
    site: Path = typer.Argument(help="Folder to make."),
    template: str = typer.Option("hospital", help="hospital: MLLP in, FHIR out; platform: FHIR over mutual TLS in."),
    party: str = typer.Option("", help="The party that the node's certificate names; default: the folder's name."),
) -> None:
    """Make a site: meridian.yaml, a first channel with its test, a private certificate authority with the node's certificate."""
    if template not in _LEVELS:
        raise ConfigError(f"there is no template {template!r}; allowed: {', '.join(_LEVELS)}")
    if site.exists() and any(site.iterdir()):
        raise ConfigError(f"{site} is not empty; nothing was changed")
    name = party or site.resolve().name.lower().replace("_", "-").replace(" ", "-")
    _write(site, template, name)
    authority = Authority.create(site / "certs", f"{name} private CA")
    authority.issue(name, dns=("localhost",), ips=("127.0.0.1",))
    schema.command(out=site / "schemas", as_manual=False)
    for outcome in harness.run(load(site, secrets=False), update=True):
        if outcome.differences:  # a first test that expects a failure would hide it for good
            raise ConfigError(f"the site's own test {outcome.name} does not work: {'; '.join(outcome.differences)}")
    typer.echo(f"made {site}; next: meridian check {site}, meridian test {site}, meridian run {site}")


def _write(site: Path, template: str, name: str) -> None:
    templates = files("channels").joinpath("templates")
    for folder in ("channels", "mappings", "tests"):
        (site / folder).mkdir(parents=True)
    text = templates.joinpath("meridian.yaml").read_text(encoding="utf-8")
    (site / "meridian.yaml").write_text(text.format(name=name, party=name, level=_LEVELS[template]), encoding="utf-8")
    channel = "first" if template == "hospital" else "intake"
    source = "first.yaml" if template == "hospital" else "platform.yaml"
    head = "# yaml-language-server: $schema=../schemas/channel.schema.json\n"
    (site / "channels" / f"{channel}.yaml").write_text(head + templates.joinpath(source).read_text(encoding="utf-8"), encoding="utf-8")
    if template == "hospital":
        (site / "tests" / channel).mkdir()
        (site / "tests" / channel / "admission.hl7").write_bytes(templates.joinpath("admission.hl7").read_bytes())
    (site / ".gitignore").write_text(_IGNORED, encoding="utf-8")
