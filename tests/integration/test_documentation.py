"""What the documentation shows is run: every sh block of the README's tour and of the operating page, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks, run


def test_the_tour(tmp_path: Path) -> None:
    """Own site, check, test, run, send, search, show, queue, ledger, convert: each command of the README ends well."""
    _, *tour = blocks("README.md")
    commands = "\n".join(tour).replace(
        "meridian run my-hospital &", "meridian run my-hospital >run.log 2>&1 & NODE=$!; trap 'kill $NODE; wait $NODE || true' EXIT"
    )
    output = run(commands, tmp_path)
    for shown in ("fine: first", "1 passed, 0 failed", "admission.hl7: AA", "SENT", "yes", "Patient", "Patient-PID row", "messages.shown"):
        assert shown in output, output


def test_the_first_screen_names_the_two_commands() -> None:
    """make demo and make test, within the first 20 lines, and targets of the Makefile."""
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in first
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", ["engine/docs/operating.md"])
def test_the_pages(page: str, tmp_path: Path) -> None:
    """Every sh block of the page, in one folder, in order."""
    run("\n".join(blocks(page)), tmp_path)


@pytest.mark.parametrize("page", ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "examples").rglob("README.md"))])
def test_links_lead_somewhere(page: str) -> None:
    """Relative links of the README and the examples exist."""
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target
