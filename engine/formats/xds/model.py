"""A submission as plain values (IHE ITI TF-3 clause 4.1): submission set, document entries, folders, associations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.formats.xds import names


@dataclass(frozen=True, slots=True)
class Code:
    """A coded attribute (4.2.3.1.2): nodeRepresentation, the slot codingScheme, Name."""

    code: str
    scheme: str = ""
    display: str = ""


@dataclass(frozen=True, slots=True)
class Author:
    """4.2.3.1.4: persons are XCN, institutions XON, telecommunications XTN."""

    persons: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()
    telecommunications: tuple[str, ...] = ()


@dataclass(slots=True)
class Described:
    """What submission set, document entry and folder have in common. `path` is ``DocumentEntry[2]``: for locations and lineage. Values are
    by the attribute's name in the standard; `extra` are slots that it does not know (4.2.3.1.6)."""

    path: str = ""
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    codes: dict[str, tuple[Code, ...]] = field(default_factory=dict)
    authors: tuple[Author, ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict)
    limited: bool = False

    @property
    def kind(self) -> str:
        return type(self).__name__

    def all(self, attribute: str) -> tuple[str, ...]:
        """Every value of `attribute`, the codes of a coded one, the persons (else institutions) of authors."""
        if attribute == "author":
            return tuple(text for one in self.authors for text in (*one.persons, *one.institutions, *one.roles, *one.specialties))
        if attribute in self.codes:
            return tuple(one.code for one in self.codes[attribute])
        return self.values.get(attribute, ())

    def get(self, attribute: str) -> str:
        """The first value, "" where there is none."""
        return next(iter(self.all(attribute)), "")

    def code(self, attribute: str) -> Code | None:
        return next(iter(self.codes.get(attribute, ())), None)

    @property
    def id(self) -> str:
        """entryUUID, or the symbolic id that stands for it in a submission."""
        return self.get("entryUUID")

    @property
    def unique_id(self) -> str:
        return self.get("uniqueId")

    @property
    def patient_id(self) -> str:
        return self.get("patientId")


class SubmissionSet(Described):
    """4.1.1"""


class DocumentEntry(Described):
    """4.1.2"""

    @property
    def on_demand(self) -> bool:
        return self.get("objectType") == names.ON_DEMAND


class Folder(Described):
    """4.1.3"""


@dataclass(frozen=True, slots=True)
class Association:
    """4.1.4; `status` is the slot SubmissionSetStatus of a HasMember."""

    kind: str
    source: str
    target: str
    status: str = ""
    path: str = ""


@dataclass(slots=True)
class Submission:
    """All objects of a message. `contents` are its Document elements by the id of their entry, `doubled` the ids that came twice."""

    sets: list[SubmissionSet] = field(default_factory=list)
    entries: list[DocumentEntry] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    contents: Mapping[str, Any] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()

    def described(self) -> Iterator[Described]:
        yield from self.sets
        yield from self.entries
        yield from self.folders

    @property
    def set(self) -> SubmissionSet:
        """The submission set (an empty one where there is none, so that what is told of a faulty message can be told)."""
        return self.sets[0] if self.sets else SubmissionSet("SubmissionSet[1]")

    def patient_ids(self) -> tuple[str, ...]:
        """patientId and sourcePatientId of all, once each."""
        return tuple(dict.fromkeys(text for one in self.described() for name in ("patientId", "sourcePatientId") for text in one.all(name)))
