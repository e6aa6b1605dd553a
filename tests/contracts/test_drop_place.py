"""The folders behind our own SFTP server against the contract of places, as one user's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.file.drop.place import DropPlace
from adapters.file.places import Entry, Listening, beside, unclaimed
from tests.contracts.test_sftp_place import RemoteContract
from tests.support.drop import USER, Dropping


class OfOneUser:
    """Names without the user's, so that the suite's own are what it asks for."""

    def __init__(self, place: DropPlace) -> None:
        self._place = place
        self.said = place.said

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def list(self) -> Any:
        return [_without(one) for one in self._place.list()]

    def claimed(self) -> Any:
        return [_without(one) for one in self._place.claimed()]

    def read(self, name: str) -> Any:
        return self._place.read(f"{USER}/{name}")

    def claim(self, name: str) -> str | None:
        claimed = self._place.claim(f"{USER}/{name}")
        return None if claimed is None else claimed.removeprefix(f"{USER}/")

    def holds(self, claimed: str) -> bool:
        return self._place.holds(f"{USER}/{claimed}")

    def take_over(self, silent: float) -> Any:
        return [name.removeprefix(f"{USER}/") for name in self._place.take_over(silent)]

    def move(self, name: str, folder: str) -> str:
        return self._place.move(f"{USER}/{name}", folder).removeprefix(f"{USER}/")

    def write(self, name: str, chunks: Iterable[bytes], folder: str = "") -> bool:
        return self._place.write(name, chunks, f"{USER}/{folder}")

    def find(self, name: str, folder: str = "") -> Entry | None:
        found = self._place.find(name, f"{USER}/{folder}")
        return None if found is None else _without(found)


def _without(entry: Entry) -> Entry:
    return Entry(entry.name.removeprefix(f"{USER}/"), entry.size, entry.modified)


class TestDropPlace(RemoteContract):
    """Without the network: clients are in tests/integration/test_file_drop.py."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        with Dropping(tmp_path) as self.drop:
            self.folder = self.drop.files
            yield

    def make(self, owner: str) -> Any:
        made = DropPlace(self.drop.serve, self.drop.context, owner)
        made.open()
        return OfOneUser(made)

    def test_it_listens(self) -> None:
        """The source asks for it by this contract."""
        assert isinstance(self.drop.place, Listening)

    def test_reports_lie_beside_their_files(self) -> None:
        """In the user's own folder, under the name that the file had."""
        self.put("a.csv", b"1")
        claimed = self.drop.place.claim(f"{USER}/a.csv")
        assert claimed is not None
        assert unclaimed(claimed) == f"{USER}/a.csv"
        assert self.drop.place.write("a.csv.errors.csv", [b"2"], beside(claimed, "faulty"))
        assert self.drop.place.move(claimed, "faulty") == f"{USER}/faulty/a.csv"
        assert self.tree() == {"faulty/a.csv": b"1", "faulty/a.csv.errors.csv": b"2"}
