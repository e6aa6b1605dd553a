"""A folder of this machine against the contract of places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from adapters.file.local_folder import LocalFolder
from adapters.file.places import is_plain, numbered, shown
from tests.contracts.file_places import PlaceContract


class TestLocalFolder(PlaceContract):
    """On the file system of the tests."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, owner: str) -> Any:
        made = LocalFolder(self.folder, owner)
        made.open()
        return made

    def put(self, path: str, content: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def tree(self) -> dict[str, bytes]:
        files = [one for one in self.folder.rglob("*") if one.is_file()]
        return {str(one.relative_to(self.folder)): one.read_bytes() for one in files if one.name != ".alive"}

    def silence(self, owner: str, seconds: float) -> None:
        alive = self.folder / ".claimed" / owner / ".alive"
        then = alive.stat().st_mtime - seconds
        os.utime(alive, (then, then))

    def test_links_are_not_followed(self, place: Any) -> None:
        """Neither listed nor read: who can write into the folder must not make the node read what it may read elsewhere."""
        (self.folder / "link.csv").symlink_to("/etc/hostname")
        assert list(place.list()) == []
        with pytest.raises(OSError, match=r"symbolic links|Too many"):
            place.read("link.csv")

    def test_without_hard_links_too(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A share that has none: still nothing is overwritten."""

        def refused(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
        self.test_moved_never_overwritten(place)

    def test_no_empty_file_is_left_where_a_move_fails(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without links the name is taken first; a receiver would take what is there for a file of ours."""

        def refused(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.put("a.csv", b"1")
        claimed = place.claim("a.csv")
        monkeypatch.setattr(os, "link", refused)
        monkeypatch.setattr(os, "rename", refused)
        with pytest.raises(PermissionError):
            place.move(claimed, "done")
        assert list((self.folder / "done").iterdir()) == []

    def test_a_folder_that_is_not_mounted_is_not_made(self) -> None:
        """A missing mount point must be said, not filled."""
        place = LocalFolder(self.folder / "missing", "one")
        with pytest.raises(FileNotFoundError):
            place.list()
        with pytest.raises(FileNotFoundError):
            place.beat()
        assert not (self.folder / "missing").exists()

    def test_moved_to_a_number_before_the_end_of_the_process(self, place: Any) -> None:
        """The same where its name had a number."""
        for name in ("a.csv", "a.2.csv", "a.4.csv"):
            self.put(f"done/{name}", b"old")
        self.put("a.csv", b"1")
        claimed = place.claim("a.csv")
        os.link(self.folder / claimed, self.folder / "done" / "a.3.csv")
        assert place.move(claimed, "done") == "done/a.3.csv"
        assert [path for path, content in self.tree().items() if content == b"1"] == ["done/a.3.csv"]

    def test_moved_before_the_end_of_the_process(self, place: Any) -> None:
        """Between the new name and the end of the old one: the file is not doubled."""
        self.put("a.csv", b"1")
        claimed = place.claim("a.csv")
        (self.folder / "done").mkdir()
        os.link(self.folder / claimed, self.folder / "done" / "a.csv")
        assert place.move(claimed, "done") == "done/a.csv"
        assert self.tree() == {"done/a.csv": b"1"}


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\\b", "a\x00b", "a\nb", " a", "a" * 256])
def test_names_that_are_not_plain(name: str) -> None:
    """None of them may be written."""
    assert not is_plain(name)


def test_names_in_words() -> None:
    """GBK bytes of a Windows share are read as such; a number goes before the ending."""
    assert shown("报告.pdf".encode("gb18030").decode("utf-8", "surrogateescape")) == "报告.pdf"
    assert is_plain("报告 1.pdf")
    assert [numbered("a.csv", 1), numbered("a.csv", 2), numbered("README", 3)] == ["a.csv", "a.2.csv", "README.3"]
