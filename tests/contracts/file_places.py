"""What every place for files must do (adapters.file.places.Place): inherit, and say how to get at one from the other side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.file.places import Entry, Place, last_part, numbered


class PlaceContract:
    """`make(owner)` gives an open place of that owner; places of one test look at the same files. `put` lays a file there as a foreign
    program does, `tree` gives what lies there (path: content) but for what is below ``.claimed`` and begins with a dot, `silence` makes an
    owner last seen so many seconds ago."""

    def make(self, owner: str) -> Any:
        raise NotImplementedError

    def put(self, path: str, content: bytes) -> None:
        raise NotImplementedError

    def tree(self) -> dict[str, bytes]:
        raise NotImplementedError

    def silence(self, owner: str, seconds: float) -> None:
        raise NotImplementedError

    @pytest.fixture
    def place(self) -> Iterator[Any]:
        made = self.make("one")
        yield made
        made.close()

    @pytest.fixture
    def other(self) -> Iterator[Any]:
        made = self.make("two")
        yield made
        made.close()

    def names(self, entries: Any) -> list[str]:
        return sorted(entry.name for entry in entries)

    def test_it_is_a_place(self, place: Any) -> None:
        """All of the contract is there, and it can say what it is."""
        assert isinstance(place, Place)
        assert place.said

    def test_only_files_are_listed(self, place: Any) -> None:
        """With size and time; what is hidden or lies in folders is not."""
        self.put("a.csv", b"1234")
        self.put(".hidden", b"1")
        self.put("below/b.csv", b"1")
        (entry,) = place.list()
        assert isinstance(entry, Entry)
        assert (entry.name, entry.size) == ("a.csv", 4)
        assert entry.modified > 1_500_000_000_000_000

    def test_what_is_claimed_is_not_listed_and_can_be_read(self, place: Any) -> None:
        """Its claimed name ends in its own; the content is what was put."""
        self.put("a.csv", b"content")
        claimed = place.claim("a.csv")
        assert claimed is not None
        assert last_part(claimed) == "a.csv"
        assert list(place.list()) == []
        assert self.names(place.claimed()) == [claimed]
        assert place.holds(claimed)
        with place.read(claimed) as file:
            assert file.read() == b"content"

    def test_one_of_two_claims(self, place: Any, other: Any) -> None:
        """The second gets nothing, and sees nothing."""
        self.put("a.csv", b"1")
        assert place.claim("a.csv") is not None
        assert other.claim("a.csv") is None
        assert list(other.list()) == list(other.claimed()) == []

    def test_what_is_gone_cannot_be_claimed(self, place: Any) -> None:
        """A name that another has moved meanwhile is no error."""
        assert place.claim("gone.csv") is None

    def test_the_same_name_again_waits(self, place: Any) -> None:
        """A file that comes while one of its name is still held is not laid over it."""
        self.put("a.csv", b"first")
        claimed = place.claim("a.csv")
        self.put("a.csv", b"second")
        assert place.claim("a.csv") is None
        with place.read(claimed) as file:
            assert file.read() == b"first"
        assert self.names(place.list()) == ["a.csv"]

    def test_claims_outlive_the_process(self, place: Any) -> None:
        """Another life of the same owner finds them."""
        self.put("a.csv", b"1")
        claimed = place.claim("a.csv")
        place.close()
        again = self.make("one")
        assert self.names(again.claimed()) == [claimed]
        again.close()

    def test_a_silent_owner_loses_its_claims(self, place: Any, other: Any) -> None:
        """Only after the stated time; then its file is the other's, and no longer its own."""
        self.put("a.csv", b"1")
        claimed = place.claim("a.csv")
        other.beat()
        assert list(other.take_over(60.0)) == []
        assert place.holds(claimed)
        self.silence("one", 120.0)
        other.beat()
        (taken,) = other.take_over(60.0)
        assert last_part(taken) == "a.csv"
        assert other.holds(taken)
        assert not place.holds(claimed)
        assert list(other.take_over(60.0)) == []

    def test_the_tenth_of_a_name(self, place: Any) -> None:
        """Senders who call every file the same: each has a number of its own, also where somebody has taken one away."""
        for number in range(1, 10):
            self.put(f"done/{numbered('a.csv', number)}", b"old")
        for content in (b"ten", b"eleven"):
            self.put("a.csv", content)
            place.move(place.claim("a.csv"), "done")
        found = {path: content for path, content in self.tree().items() if path.startswith("done/") and content != b"old"}
        assert found == {"done/a.10.csv": b"ten", "done/a.11.csv": b"eleven"}

    def test_moved_never_overwritten(self, place: Any) -> None:
        """The second of a name gets a number before its ending."""
        for content in (b"first", b"second"):
            self.put("a.csv", content)
            place.move(place.claim("a.csv"), "done/2026-01-31")
        assert self.tree() == {"done/2026-01-31/a.csv": b"first", "done/2026-01-31/a.2.csv": b"second"}
        assert list(place.claimed()) == []

    def test_laid_back_into_the_place(self, place: Any) -> None:
        """It is listed again, and never lies over what has come meanwhile."""
        self.put("a.csv", b"first")
        claimed = place.claim("a.csv")
        self.put("a.csv", b"second")
        assert place.move(claimed, "") == "a.2.csv"
        assert self.names(place.list()) == ["a.2.csv", "a.csv"]

    def test_written_whole_or_not_at_all(self, place: Any) -> None:
        """A name that is there keeps its content; what breaks off leaves nothing."""
        assert place.write("out.json", [b"{", b"}"])
        assert not place.write("out.json", [b"other"])

        def breaking() -> Iterator[bytes]:
            yield b"half"
            raise OSError("the disk has gone")

        with pytest.raises(OSError, match="gone"):
            place.write("half.json", breaking())
        assert self.tree() == {"out.json": b"{}"}

    def test_written_below_a_folder_and_found(self, place: Any) -> None:
        """The folder is made; what `find` names can be read."""
        assert place.find("a.csv", "reports") is None
        assert place.write("a.csv", [b"x" * 10], "reports")
        found = place.find("a.csv", "reports")
        assert found is not None
        assert found.size == 10
        with place.read(found.name) as file:
            assert file.read() == b"x" * 10
