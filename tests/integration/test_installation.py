"""What `pip install` puts on a machine: every file that the program reads, and no need of an extra that a site does not use."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from engine import registry
from tests.support.peers import PATIENCE, ROOT, require

PACKAGES = ("engine", "adapters", "channels", "mappings", "certs")
BARE = f"""
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(registry._EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Nowhere())
"""
"""Begins a script as if no extra were installed."""
LOADING = """
from engine import registry
from engine.errors import ConfigError
for group in (registry.ADAPTERS, registry.CODECS, registry.MAPPINGS):
    for name in registry.names(group):
        try:
            registry._load(group, name)
        except ConfigError as error:
            print(name, error, sep=": ")
"""
CHECKING = """
from pathlib import Path
from channels import load
from engine.errors import ConfigError
try:
    load(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
"""
COMMAND = """
from engine.cli import main
main()
"""
NEEDING = {
    "database": "database", "database_capture": "database", "fhir_tables": "database",
    "application/dicom": "dicom", "application/dicom+json": "dicom", "dicom-to-fhir": "dicom",
}  # fmt: skip
"""What cannot be loaded without an extra."""


def _bare(script: str, *arguments: str) -> list[str]:
    made = subprocess.run(
        [sys.executable, "-c", BARE + script, *arguments], cwd=ROOT, check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    return made.stdout.splitlines()


def test_every_file_is_packed(tmp_path: Path) -> None:
    """Tables and templates lie in folders that are no packages, and are needed all the same."""
    require(importlib.util.find_spec("setuptools") is not None, "setuptools is not installed")
    tree, built = tmp_path / "tree", tmp_path / "built"
    tree.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", *PACKAGES):  # setuptools writes beside what it packs
        (tree / name).symlink_to(ROOT / name)
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet", "build_py", "--build-lib", str(built)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, timeout=PATIENCE)
    packed = {str(file.relative_to(built)) for file in built.rglob("*")}
    files = {
        str(file.relative_to(ROOT))
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert len(files) > 900
    assert files - packed == set()


def test_only_what_needs_an_extra_asks_for_it() -> None:
    """Everything else can be loaded without any."""
    said = dict(line.split(": ", 1) for line in _bare(LOADING))
    assert {name: text.partition("meridian[")[2].partition("]")[0] for name, text in said.items()} == NEEDING


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("source:\n  mllp: {listen: 2575}\nmap: dicom-to-fhir", "channels/one.yaml:4: map: 'dicom-to-fhir' needs"),
        ("source:\n  dicom: {listen: 11112}", "channels/one.yaml:3: source.dicom: 'application/dicom' needs"),
    ],
)
def test_a_missing_extra_is_named_with_its_line(tmp_path: Path, channel: str, expected: str) -> None:
    """As any other fault of a channel's file."""
    (tmp_path / "channels").mkdir()
    (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
    (tmp_path / "channels" / "one.yaml").write_text(f"name: one\n{channel}\ndestinations: []\n")
    said = _bare(CHECKING, str(tmp_path))
    assert [line for line in said if line.startswith(expected) and "pip install 'meridian[dicom]'" in line], said


@pytest.mark.parametrize(("command", "extra"), [(("bench", "database", "-n", "10"), "database"), (("demo", "--exit"), "sftp")])
def test_a_command_that_needs_an_extra_says_so(command: tuple[str, ...], extra: str) -> None:
    """In one line, and before anything is begun."""
    script = [sys.executable, "-c", BARE + COMMAND, *command]
    made = subprocess.run(script, cwd=ROOT, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (made.returncode, made.stderr.count("\n"), made.stdout) == (2, 1, "")
    assert f"pip install 'meridian[{extra}]'" in made.stderr
