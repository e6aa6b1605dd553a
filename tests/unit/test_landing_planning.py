"""What a Bundle comes to, against a repository that is a dictionary: identities, conditions, references, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from adapters.database.landing import requests
from adapters.database.landing.planning import Current, Group, Key, Planned
from adapters.database.landing.requests import Refused, Token


class Dictionary:
    """planning.Known"""

    def __init__(self, current: dict[Key, Current] | None = None, holders: dict[tuple[str, str, str], list[str]] | None = None) -> None:
        self._current, self._holders = current or {}, holders or {}

    def current(self, key: Key) -> Current | None:
        return self._current.get(key)

    def holders(self, resource_type: str, token: Token) -> Iterable[str]:
        found = {system: names for (kind, system, value), names in self._holders.items() if (kind, value) == (resource_type, token.value)}
        return [name for system, names in found.items() if token.system in (None, system) for name in names]


def entry(method: str, url: str, resource: Any = None, full_url: str = "", **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if full_url:
        made["fullUrl"] = full_url
    return (
        made
        if resource is None
        else {**made, "resource": {"resourceType": url.split("/", maxsplit=1)[0].split("?", maxsplit=1)[0], **resource}}
    )


def plan(group: Group, *entries: Any, name: str = "key", kind: str = "transaction") -> Planned:
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()
    return group.plan(requests.read(body), name)


def test_a_new_resource_is_called_what_the_sender_calls_it() -> None:
    """The UUID of fullUrl, so that landing everything anew gives the same ids; a template's placeholder that comes again is another one."""
    group = Group(Dictionary(), 0)
    post = entry("POST", "Patient", {}, "urn:uuid:placeholder")
    (first,) = plan(group, post).versions
    (second,) = plan(group, post, name="other").versions
    (third,) = plan(Group(Dictionary({("Patient", "placeholder"): Current(2, True, "")}), 0), post, name="other").versions
    assert first.key == ("Patient", "placeholder")
    assert second.key == third.key != first.key


def test_references_become_identities() -> None:
    """By fullUrl, by condition, in uri elements; what is of elsewhere stays."""
    known = Dictionary({("Patient", "p"): Current(1, False, "")}, {("Patient", "urn:s", "7"): ["p"]})
    flag = {
        "subject": {"reference": "Patient?identifier=urn:s|7"},
        "author": {"reference": "urn:uuid:d"},
        "encounter": {"reference": "urn:uuid:nobody"},
        "extension": [{"url": "urn:uuid:d", "valueUri": "urn:uuid:d"}, {"valueString": "urn:uuid:d"}],
    }
    device, version = plan(Group(known, 10), entry("POST", "Device", {}, "urn:uuid:d"), entry("POST", "Flag", flag)).versions
    content: Any = version.content
    assert (content["subject"], content["author"]) == ({"reference": "Patient/p"}, {"reference": "Device/d"})
    assert content["encounter"] == {"reference": "urn:uuid:nobody"}
    assert content["extension"] == [{"url": "Device/d", "valueUri": "Device/d"}, {"valueString": "urn:uuid:d"}]
    assert version.resolved == {"Patient?identifier=urn:s|7": "Patient/p", "urn:uuid:d": "Device/d"}
    assert json.loads(version.received or b"")["subject"] == flag["subject"]
    assert (device.seq, version.seq) == (12, 13)


def test_a_condition_sees_what_the_bundle_has_made() -> None:
    """Of two conditional creates of one Bundle the second finds the first; so does the next Bundle of the group."""
    group = Group(Dictionary(), 0)
    made = entry("POST", "Patient", {"identifier": [{"system": "urn:s", "value": "1"}]}, "urn:uuid:a", ifNoneExist="identifier=urn:s|1")
    again = {**made, "fullUrl": "urn:uuid:b"}
    planned = plan(group, made, again)
    assert ([version.key for version in planned.versions], planned.unchanged) == ([("Patient", "a")], 1)
    assert plan(group, again, name="next").versions == []


def test_what_was_renamed_is_not_found_by_its_old_name() -> None:
    known = Dictionary({("Patient", "p"): Current(1, False, "x")}, {("Patient", "urn:s", "1"): ["p"]})
    group = Group(known, 0)
    plan(group, entry("PUT", "Patient/p", {"id": "p", "identifier": [{"system": "urn:s", "value": "2"}]}))
    (found,) = plan(group, entry("PUT", "Patient?identifier=urn:s|2", {"active": True}), name="n").versions
    (new,) = plan(group, entry("PUT", "Patient?identifier=urn:s|1", {}), name="m").versions
    assert (found.key, found.version) == (("Patient", "p"), 3)
    assert new.version == 1


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry("PUT", "Patient/p", {"id": "p"}, ifMatch='W/"2"')], "another version"),
        ([entry("PUT", "Patient/p", {"id": "p"}), entry("PUT", "Patient/p", {"id": "p", "active": True})], "two entries"),
        ([entry("DELETE", "Patient/p"), entry("DELETE", "Patient/p")], "two entries"),
        ([entry("POST", "Patient", {}, ifNoneExist="identifier=twin")], "several resources"),
        ([entry("PUT", "Patient?identifier=none", {"id": "p"})], "is taken"),
        ([entry("PUT", "Patient?identifier=one", {"id": "q"})], "not that of the match"),
        ([entry("POST", "Flag", {"subject": {"reference": "Patient?identifier=none"}})], "no Patient matches"),
    ],
)
def test_a_refusal_leaves_the_group_as_it_was(entries: list[Any], said: str) -> None:
    """With its place, and without a trace of the entries before it."""
    holders = {("Patient", "", "twin"): ["p", "t"], ("Patient", "", "one"): ["p"]}
    group = Group(Dictionary({("Patient", "p"): Current(1, False, "")}, holders), 5)
    with pytest.raises(Refused, match=said) as refused:
        plan(group, entry("PUT", "Device/d", {"id": "d"}), *entries)
    assert refused.value.location.startswith("Bundle.entry[")
    (device,) = plan(group, entry("PUT", "Device/d", {"id": "d"}), name="again").versions
    assert (device.version, device.seq) == (1, 7)


def test_a_deletion_of_what_is_not_there_changes_nothing() -> None:
    group = Group(Dictionary({("Patient", "gone"): Current(2, True, "")}), 0)
    planned = plan(group, entry("DELETE", "Patient/gone"), entry("DELETE", "Patient/never"), entry("DELETE", "Patient?identifier=none"))
    assert (planned.versions, planned.unchanged) == ([], 3)


def test_a_batch_is_landed_like_a_transaction() -> None:
    assert (
        len(plan(Group(Dictionary(), 0), entry("POST", "Patient", {}), entry("PUT", "Device/d", {"id": "d"}), kind="batch").versions) == 2
    )
