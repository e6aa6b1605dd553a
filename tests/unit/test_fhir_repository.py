"""The resource repository without HTTP: each interaction, its conditions, atomicity, versions, repeats."""

import json
import sqlite3
from importlib.resources import files

import pytest

from adapters.fhir import queries, views
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.repository import Reading
from adapters.fhir.search import parse_query
from engine.errors import ParseError, StoreCorrupt, StoreError, StoreFull
from tests.support.fhir import SYSTEM, body_of, bundle, entry, identified, open_repository


@pytest.fixture
def repository(tmp_path):
    opened = open_repository(tmp_path / "r.db")
    yield opened
    opened.close()


@pytest.fixture
def reading(repository):
    made = Reading(repository.path)
    yield made
    made.close()


def apply(repository, *entries, key="", kind="transaction"):
    """The entries of the response; raises the refusal."""
    (result,) = repository.apply([(key, bundle(*entries, kind=kind))])
    if not isinstance(result, Answer):
        raise result
    return body_of(result)["entry"]


def statuses(entries):
    return [part["response"]["status"][:3] for part in entries]


def refused(repository, *entries):
    with pytest.raises(FhirRefusal) as caught:
        apply(repository, *entries)
    return caught.value


def found(reading, resource_type, query):
    answer = reading.read(views.search, parse_query(resource_type, query), resource_type, query)
    return [part["resource"] for part in body_of(answer).get("entry", [])]


def read(reading, resource_type, resource_id):
    return body_of(reading.read(views.read, resource_type, resource_id))


def by(value):
    return f"identifier={SYSTEM}|{value}"


class TestCreate:
    def test_gives_id_version_and_location(self, repository, reading):
        """A create is answered 201 with a version-specific location, and what is read has id and meta."""
        (part,) = apply(repository, entry("POST", "Patient", {"resourceType": "Patient", "active": True}))
        assert part["response"]["status"] == "201 Created"
        assert part["response"]["location"] == "Patient/n1/_history/1"
        patient = read(reading, "Patient", "n1")
        assert patient["meta"] == {"versionId": "1", "lastUpdated": part["response"]["lastModified"]}
        assert patient["active"] is True

    def test_ignores_a_given_id(self, repository, reading):
        """The server chooses the id of a create (R4 3.1.0.8)."""
        apply(repository, entry("POST", "Patient", {"resourceType": "Patient", "id": "mine"}))
        with pytest.raises(FhirRefusal):
            read(reading, "Patient", "mine")

    def test_if_none_exist_without_match_creates(self, repository):
        assert statuses(apply(repository, entry("POST", "Patient", identified("Patient", "A"), ifNoneExist=by("A")))) == ["201"]

    def test_if_none_exist_with_one_match_changes_nothing(self, repository, reading):
        """One match: 200 with the location of what is there, and no new version."""
        apply(repository, entry("POST", "Patient", identified("Patient", "A")))
        (part,) = apply(repository, entry("POST", "Patient", identified("Patient", "A", active=True), ifNoneExist=by("A")))
        assert part["response"]["status"] == "200 OK"
        assert part["response"]["location"] == "Patient/n1/_history/1"
        assert "active" not in read(reading, "Patient", "n1")

    def test_if_none_exist_with_several_matches_is_refused(self, repository):
        apply(repository, *(entry("POST", "Patient", identified("Patient", "A")) for _ in range(2)))
        assert refused(repository, entry("POST", "Patient", identified("Patient", "A"), ifNoneExist=by("A"))).status == 412

    def test_two_conditional_creates_in_one_bundle_make_one(self, repository, reading):
        """The second sees what the first has created."""
        wanted = entry("POST", "Patient", identified("Patient", "A"), ifNoneExist=by("A"))
        assert statuses(apply(repository, wanted, wanted)) == ["201", "200"]
        assert len(found(reading, "Patient", by("A"))) == 1

    def test_a_condition_that_restricts_nothing_is_refused(self, repository):
        """An empty If-None-Exist would match every resource there is."""
        assert refused(repository, entry("POST", "Patient", identified("Patient", "A"), ifNoneExist="")).status == 412

    def test_a_condition_on_an_unknown_parameter_is_refused(self, repository):
        assert refused(repository, entry("POST", "Patient", identified("Patient", "A"), ifNoneExist="shoe=42")).status == 400


class TestUpdate:
    def test_of_an_unknown_id_creates_it(self, repository):
        """Update as create: the client's id is kept (R4 3.1.0.4.1)."""
        assert statuses(apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))) == ["201"]

    def test_makes_a_new_version(self, repository, reading):
        for active in (True, False):
            parts = apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "active": active}))
        assert parts[0]["response"]["etag"] == 'W/"2"'
        assert body_of(reading.read(views.vread, "Patient", "p", "1"))["active"] is True
        assert read(reading, "Patient", "p")["active"] is False

    @pytest.mark.parametrize(
        "resource", [{"resourceType": "Patient", "id": "other"}, {"resourceType": "Patient"}, {"resourceType": "Group", "id": "p"}]
    )
    def test_of_something_else_than_the_url_says_is_refused(self, repository, resource):
        assert refused(repository, entry("PUT", "Patient/p", resource)).status == 400

    def test_conditional_without_match_creates(self, repository):
        assert statuses(apply(repository, entry("PUT", f"Patient?{by('A')}", identified("Patient", "A")))) == ["201"]

    def test_conditional_with_one_match_updates_it(self, repository, reading):
        apply(repository, entry("PUT", f"Patient?{by('A')}", identified("Patient", "A")))
        (part,) = apply(repository, entry("PUT", f"Patient?{by('A')}", identified("Patient", "A", active=True)))
        assert part["response"]["status"] == "200 OK"
        assert part["response"]["location"] == "Patient/n1/_history/2"
        assert read(reading, "Patient", "n1")["active"] is True

    def test_conditional_with_several_matches_is_refused(self, repository):
        apply(repository, *(entry("POST", "Patient", identified("Patient", "A")) for _ in range(2)))
        assert refused(repository, entry("PUT", f"Patient?{by('A')}", identified("Patient", "A"))).status == 412

    def test_conditional_with_the_id_of_another_is_refused(self, repository):
        apply(repository, entry("POST", "Patient", identified("Patient", "A")))
        wrong = entry("PUT", f"Patient?{by('A')}", identified("Patient", "A", id="other"))
        assert refused(repository, wrong).status == 400

    def test_conditional_without_match_but_with_a_taken_id_is_a_conflict(self, repository):
        apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))
        assert refused(repository, entry("PUT", f"Patient?{by('A')}", identified("Patient", "A", id="p"))).status == 409

    def test_changes_what_the_resource_is_found_by(self, repository, reading):
        """The index follows the current version, for identifiers and references."""
        first = identified("Observation", "A", subject={"reference": "Patient/1"}, id="o")
        apply(repository, entry("PUT", "Observation/o", first))
        second = identified("Observation", "B", subject={"reference": "Patient/2"}, id="o")
        apply(repository, entry("PUT", "Observation/o", second))
        assert found(reading, "Observation", by("A")) == []
        assert found(reading, "Observation", "subject=Patient/1") == []
        assert len(found(reading, "Observation", f"{by('B')}&patient=2")) == 1

    def test_if_match_of_the_current_version_updates(self, repository):
        apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))
        assert statuses(apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch='W/"1"'))) == ["200"]

    @pytest.mark.parametrize("etag", ['W/"2"', '"7"'])
    def test_if_match_of_another_version_is_refused(self, repository, reading, etag):
        apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))
        assert refused(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch=etag)).status == 412
        assert read(reading, "Patient", "p")["meta"]["versionId"] == "1"

    def test_if_match_of_what_is_not_there_is_refused(self, repository):
        assert refused(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch='W/"1"')).status == 412


class TestDelete:
    def test_leaves_the_versions_and_nothing_to_find(self, repository, reading):
        """Read is 410 afterwards, earlier versions stay, no search finds it."""
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        assert statuses(apply(repository, entry("DELETE", "Patient/p"))) == ["204"]
        with pytest.raises(FhirRefusal) as gone:
            read(reading, "Patient", "p")
        assert gone.value.status == 410
        assert body_of(reading.read(views.vread, "Patient", "p", "1"))["id"] == "p"
        assert found(reading, "Patient", by("A")) == found(reading, "Patient", "_id=p") == []

    def test_of_what_is_not_there_succeeds(self, repository):
        assert statuses(apply(repository, entry("DELETE", "Patient/p"), entry("DELETE", f"Patient?{by('A')}"))) == ["204", "204"]

    def test_conditional_with_several_matches_is_refused(self, repository):
        apply(repository, *(entry("POST", "Patient", identified("Patient", "A")) for _ in range(2)))
        assert refused(repository, entry("DELETE", f"Patient?{by('A')}")).status == 412

    def test_then_update_brings_it_back(self, repository, reading):
        """A deleted resource that is updated goes on counting its versions (R4 3.1.0.7)."""
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        apply(repository, entry("DELETE", "Patient/p"))
        (part,) = apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        assert part["response"]["status"] == "201 Created"
        assert part["response"]["etag"] == 'W/"3"'
        assert len(found(reading, "Patient", by("A"))) == 1


class TestTransaction:
    def test_refusal_of_one_entry_undoes_all(self, repository, reading):
        """R4 3.1.0.11.2: all or nothing, also in the index."""
        error = refused(
            repository,
            entry("POST", "Patient", identified("Patient", "A")),
            entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch='W/"9"'),
        )
        assert error.location == "Bundle.entry[1]"
        assert found(reading, "Patient", by("A")) == []
        with pytest.raises(FhirRefusal):
            read(reading, "Patient", "p")

    def test_references_to_full_urls_become_ids(self, repository, reading):
        """urn:uuid references are rewritten everywhere, whatever the order of the entries, and indexed as rewritten."""
        observation = identified(
            "Observation", "O", subject={"reference": "urn:uuid:p"}, extension=[{"url": "u", "valueUri": "urn:uuid:p"}]
        )
        parts = apply(
            repository,
            entry("POST", "Observation", observation, "urn:uuid:o"),
            entry("POST", "Patient", identified("Patient", "A"), "urn:uuid:p"),
        )
        patient = parts[1]["response"]["location"].removesuffix("/_history/1")
        kept = found(reading, "Observation", by("O"))[0]
        assert kept["subject"]["reference"] == kept["extension"][0]["valueUri"] == patient
        assert len(found(reading, "Observation", f"subject={patient}")) == 1

    def test_references_to_conditional_entries_become_what_they_matched(self, repository, reading):
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        apply(
            repository,
            entry("POST", "Patient", identified("Patient", "A"), "urn:uuid:p", ifNoneExist=by("A")),
            entry("POST", "Observation", identified("Observation", "O", subject={"reference": "urn:uuid:p"})),
        )
        assert found(reading, "Observation", by("O"))[0]["subject"]["reference"] == "Patient/p"

    def test_text_that_looks_like_a_reference_is_left_alone(self, repository, reading):
        """Only the element is rewritten, not an identifier or a text that holds the same characters."""
        note = 'see "reference":"urn:uuid:p" and \\"'
        patient = {"resourceType": "Patient", "identifier": [{"value": "urn:uuid:p"}], "text": {"status": "generated", "div": note}}
        apply(repository, entry("POST", "Patient", patient, "urn:uuid:p"))
        kept = read(reading, "Patient", "n1")
        assert kept["text"]["div"] == note
        assert kept["identifier"][0]["value"] == "urn:uuid:p"

    def test_conditional_references_are_resolved(self, repository, reading):
        """Against what was there and against what the same Bundle creates."""
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        apply(
            repository,
            entry("POST", "Observation", identified("Observation", "O1", subject={"reference": f"Patient?{by('A')}"})),
            entry("POST", "Observation", identified("Observation", "O2", subject={"reference": f"Patient?{by('B')}"})),
            entry("POST", "Patient", identified("Patient", "B")),
        )
        assert found(reading, "Observation", by("O1"))[0]["subject"]["reference"] == "Patient/p"
        fresh = found(reading, "Patient", by("B"))[0]["id"]
        assert found(reading, "Observation", by("O2"))[0]["subject"]["reference"] == f"Patient/{fresh}"

    def test_conditional_reference_without_match_is_refused(self, repository):
        wrong = entry("POST", "Observation", identified("Observation", "O", subject={"reference": f"Patient?{by('A')}"}))
        assert refused(repository, wrong).status == 412

    def test_conditional_reference_with_several_matches_is_refused(self, repository):
        apply(repository, *(entry("POST", "Patient", identified("Patient", "A")) for _ in range(2)))
        wrong = entry("POST", "Observation", identified("Observation", "O", subject={"reference": f"Patient?{by('A')}"}))
        assert refused(repository, wrong).status == 412

    @pytest.mark.parametrize(
        "second",
        [
            entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}),
            entry("DELETE", "Patient/p"),
            entry("PUT", f"Patient?{by('A')}", identified("Patient", "A")),
        ],
    )
    def test_two_entries_about_one_resource_are_refused(self, repository, second):
        """Overlapping identities, resolved conditions included (R4 3.1.0.11.2)."""
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        error = refused(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")), second)
        assert error.status == 400

    def test_two_conditional_updates_that_would_create_the_same_are_refused(self, repository):
        wanted = entry("PUT", f"Patient?{by('A')}", identified("Patient", "A"))
        assert refused(repository, wanted, wanted).status == 400

    def test_deletes_come_before_creates(self, repository, reading):
        """The order of processing is DELETE, POST, PUT, GET; the answer keeps the order of the request."""
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        parts = apply(
            repository,
            entry("GET", f"Patient?{by('A')}"),
            entry("POST", "Patient", identified("Patient", "A"), ifNoneExist=by("A")),
            entry("DELETE", "Patient/p"),
        )
        assert statuses(parts) == ["200", "201", "204"]
        assert [match["resource"]["id"] for match in parts[0]["resource"]["entry"]] == ["n1"]

    def test_get_entries_read(self, repository):
        apply(repository, entry("PUT", "Patient/p", identified("Patient", "A", id="p")))
        parts = apply(repository, entry("GET", "Patient/p"), entry("GET", "Patient/p/_history/1"))
        assert [part["resource"]["id"] for part in parts] == ["p", "p"]
        assert refused(repository, entry("GET", "Patient/q")).status == 404

    @pytest.mark.parametrize(
        ("bad", "status"),
        [
            ({"resource": {"resourceType": "Patient"}}, 400),
            (entry("PATCH", "Patient/p"), 400),
            (entry("POST", "Shoe", {"resourceType": "Shoe"}), 404),
            (entry("POST", "Patient"), 400),
            (entry("POST", "Patient/p", {"resourceType": "Patient"}), 400),
            (entry("PUT", "Patient", {"resourceType": "Patient"}), 400),
            (entry("PUT", "Patient/a_b", {"resourceType": "Patient", "id": "a_b"}), 400),
            (entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch="3"), 400),
            (entry("POST", "Patient", {"resourceType": "Patient"}, ifNoneExist=3), 400),
            (entry("POST", "Patient", {"resourceType": "Patient", "meta": 3}), 400),
            ("text", 400),
        ],
    )
    def test_malformed_entries_are_refused_with_their_place(self, repository, bad, status):
        error = refused(repository, entry("POST", "Patient", {"resourceType": "Patient"}), bad)
        assert error.status == status
        assert error.location.startswith("Bundle.entry[1]")

    @pytest.mark.parametrize("odd", [3, [3], {"coding": 3}, {"coding": [3, {"code": 4}]}, [{"value": {}}], None])
    def test_identifiers_of_another_shape_are_kept_unindexed(self, repository, reading, odd):
        """Without validation the repository keeps what it is given and falls over nothing."""
        apply(repository, entry("PUT", "Basic/b", {"resourceType": "Basic", "id": "b", "identifier": odd, "code": odd, "subject": odd}))
        assert read(reading, "Basic", "b")["identifier"] == odd


class TestBatch:
    def test_entries_are_independent(self, repository, reading):
        """A refused entry has its own status and OperationOutcome, the others are done (R4 3.1.0.11.1)."""
        parts = apply(
            repository,
            entry("POST", "Patient", identified("Patient", "A")),
            entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "other"}),
            entry("GET", "Patient/nobody"),
            kind="batch",
        )
        assert statuses(parts) == ["201", "400", "404"]
        assert parts[1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
        assert len(found(reading, "Patient", by("A"))) == 1

    def test_a_refused_entry_leaves_no_index_behind(self, repository, reading):
        parts = apply(
            repository, entry("POST", "Observation", identified("Observation", "O", subject={"reference": "Patient?shoe=1"})), kind="batch"
        )
        assert statuses(parts) == ["400"]
        assert found(reading, "Observation", by("O")) == []


class TestBodies:
    def test_decimals_keep_their_digits(self, repository, reading):
        """FHIR decimals carry precision: 1.50 is not 1.5 (R4 2.24.0.1)."""
        for digits in ("1.50", "100.0", "0.000000000000000000012300", "12345678901234567890.123456789", "1.0e-3", "-0.00"):
            body = bundle(entry("PUT", "Observation/o", {"resourceType": "Observation", "id": "o", "valueQuantity": {"value": 7.75}}))
            (result,) = repository.apply([("", body.replace(b"7.75", digits.encode()))])
            assert isinstance(result, Answer)
            kept = reading.read(views.read, "Observation", "o").body
            assert b'"value":' + digits.encode() + b"}" in kept

    def test_everything_else_comes_back_as_it_was(self, repository, reading):
        resource = {
            "resourceType": "Patient",
            "id": "p",
            "name": [{"text": '张三 \U0001f600 \\ " \u2028'}],
            "multipleBirthInteger": 10**15,
            "x": [True, None, {}],
        }
        apply(repository, entry("PUT", "Patient/p", resource))
        kept = read(reading, "Patient", "p")
        del kept["meta"]
        assert kept == resource

    def test_meta_of_the_sender_is_kept_beside_ours(self, repository, reading):
        resource = {"resourceType": "Patient", "id": "p", "meta": {"profile": ["http://x"], "versionId": "77", "lastUpdated": "1999"}}
        apply(repository, entry("PUT", "Patient/p", resource))
        meta = read(reading, "Patient", "p")["meta"]
        assert meta["profile"] == ["http://x"]
        assert meta["versionId"] == "1"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b'"x"',
            b"\xff",
            b'{"resourceType":"Bundle","resourceType":"Bundle","type":"batch"}',
            b'{"a":' * 5000 + b"1" + b"}" * 5000,
        ],
    )
    def test_what_is_no_json_object_is_refused(self, repository, body):
        (result,) = repository.apply([("", body)])
        assert isinstance(result, ParseError)

    @pytest.mark.parametrize(
        "body",
        [
            {"resourceType": "Patient"},
            {"resourceType": "Bundle", "type": "collection"},
            {"resourceType": "Bundle", "type": "batch", "entry": 3},
        ],
    )
    def test_what_is_no_transaction_or_batch_is_refused(self, repository, body):
        (result,) = repository.apply([("", json.dumps(body).encode())])
        assert isinstance(result, FhirRefusal)


class TestRepeats:
    def test_the_same_key_again_changes_nothing_and_is_answered_the_same(self, repository, reading):
        body = bundle(
            entry("POST", "Patient", identified("Patient", "A")), entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"})
        )
        first, other, again = repository.apply([("k", body), ("other", bundle()), ("k", body)])
        assert again == first != other
        assert len(found(reading, "Patient", by("A"))) == 1
        assert read(reading, "Patient", "p")["meta"]["versionId"] == "1"

    def test_the_same_key_with_another_bundle_is_refused(self, repository, reading):
        """To take it for a repeat would be to lose it, and to say that it was kept."""
        first, second = (bundle(entry("POST", "Patient", identified("Patient", name))) for name in "AB")
        _, refusal = repository.apply([("k", first), ("k", second)])
        assert isinstance(refusal, FhirRefusal)
        assert refusal.status == 422
        assert found(reading, "Patient", by("B")) == []

    def test_after_a_crash_before_the_answer_a_repeat_changes_nothing(self, tmp_path, repository, reading):
        """The commit is on disk, the process dies before it can say so: the next process gives the same answer."""
        body = bundle(entry("POST", "Patient", identified("Patient", "A")))
        (first,) = repository.apply([("k", body)])
        repository.close()
        successor = open_repository(tmp_path / "r.db")
        assert successor.apply([("k", body)]) == [first]
        assert len(found(reading, "Patient", by("A"))) == 1
        successor.close()

    def test_after_a_crash_before_the_commit_nothing_is_there(self, tmp_path, repository):
        """An open transaction of a process that dies leaves no trace."""
        copy = sqlite3.connect(repository.path, isolation_level=None)
        copy.execute("BEGIN IMMEDIATE")
        copy.execute("INSERT INTO resource VALUES (1, 'Patient', 'p', 1, 0, 'PUT', x'7b7d', '')")
        copy.close()
        assert statuses(apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))) == ["201"]

    def test_a_refusal_is_judged_anew(self, repository):
        """It has changed nothing, and may be right once the world has changed."""
        wanted = entry("POST", "Observation", identified("Observation", "O", subject={"reference": f"Patient?{by('A')}"}))
        assert refused(repository, wanted).status == 412
        apply(repository, entry("POST", "Patient", identified("Patient", "A")))
        assert statuses(apply(repository, wanted, key="k")) == ["201"]

    def test_answers_are_forgotten_after_their_time(self, tmp_path):
        """A day here; then the key counts as new."""
        times = iter([10**15, 10**15 + 10, 10**15 + 86_400 * 10**6 + 2000, 10**15 + 86_400 * 10**6 + 4000])
        opened = open_repository(tmp_path / "f.db", clock=lambda: next(times))
        body = bundle(entry("POST", "Patient", identified("Patient", "A")))
        (first,) = opened.apply([("k", body)])
        assert opened.apply([("k", body)]) == [first]
        opened.apply([("other", body)])
        assert opened.apply([("k", body)]) != [first]
        opened.close()

    def test_one_bundle_of_a_group_does_not_touch_the_others(self, repository, reading):
        """Refused in the middle of a group commit: before and after it are kept."""
        good = [bundle(entry("POST", "Patient", identified("Patient", name))) for name in "AB"]
        results = repository.apply([("1", good[0]), ("2", b"garbage"), ("3", good[1])])
        assert [type(result) for result in results] == [Answer, ParseError, Answer]
        assert len(found(reading, "Patient", f"identifier={SYSTEM}|A,{SYSTEM}|B")) == 2


class TestReading:
    def test_history_is_newest_first_and_says_what_happened(self, repository, reading):
        apply(repository, entry("POST", "Patient", identified("Patient", "A")))
        apply(repository, entry("PUT", "Patient/n1", identified("Patient", "A", id="n1", active=True)))
        apply(repository, entry("DELETE", "Patient/n1"))
        history = body_of(reading.read(views.history, "Patient", "n1", "http://h/Patient/n1/_history", []))
        assert history["total"] == 3
        assert [part["request"] for part in history["entry"]] == [
            {"method": "DELETE", "url": "Patient/n1"},
            {"method": "PUT", "url": "Patient/n1"},
            {"method": "POST", "url": "Patient"},
        ]
        assert [part["response"]["status"][:3] for part in history["entry"]] == ["204", "200", "201"]
        assert [part.get("resource", {}).get("meta", {}).get("versionId") for part in history["entry"]] == [None, "2", "1"]

    def test_history_pages_join_without_gap(self, repository, reading):
        for number in range(7):
            apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "active": number % 2 == 0}))
        versions, parameters = [], [("_count", "3")]
        while parameters:
            page = body_of(reading.read(views.history, "Patient", "p", "u", parameters))
            versions += [part["resource"]["meta"]["versionId"] for part in page["entry"]]
            links = {link["relation"]: link["url"] for link in page["link"]}
            parameters = [tuple(part.split("=")) for part in links["next"].partition("?")[2].split("&")] if "next" in links else []
        assert versions == list("7654321")

    def test_search_pages_join_without_gap(self, repository, reading):
        for number in range(7):
            apply(repository, entry("PUT", f"Patient/p{number}", identified("Patient", "A", id=f"p{number}")))
        seen, query = [], f"{by('A')}&_count=3"
        while query:
            page = body_of(reading.read(views.search, parse_query("Patient", query), "http://h/Patient", query))
            seen += [part["resource"]["id"] for part in page["entry"]]
            query = next((link["url"].partition("?")[2] for link in page["link"] if link["relation"] == "next"), "")
        assert seen == [f"p{number}" for number in range(7)]

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("identifier=A", ["a", "c"]),
            (f"identifier={SYSTEM}|A", ["a"]),
            ("identifier=|A", ["c"]),
            ("identifier=A,B", ["a", "b", "c"]),
            (f"identifier={SYSTEM}%7CB", ["b"]),
            ("_id=a,b", ["a", "b"]),
            ("_id=a&identifier=B", []),
            ("_lastUpdated=gt2023", []),
            ("_lastUpdated=ge2023-11-14&_lastUpdated=lt2023-11-15", ["a", "b", "c"]),
            ("_lastUpdated=lt2023-11-14T22:13:20.002Z", ["a"]),
            ("", ["a", "b", "c"]),
        ],
    )
    def test_search_finds_what_it_says(self, repository, reading, query, ids):
        """START of the fake clock is 2023-11-14T22:13:20Z."""
        apply(repository, entry("PUT", "Patient/a", identified("Patient", "A", id="a")))
        apply(repository, entry("PUT", "Patient/b", identified("Patient", "B", id="b")))
        apply(repository, entry("PUT", "Patient/c", {"resourceType": "Patient", "id": "c", "identifier": [{"value": "A"}]}))
        assert sorted(resource["id"] for resource in found(reading, "Patient", query)) == ids

    def test_search_by_code_and_encounter(self, repository, reading):
        observation = identified(
            "Observation",
            "O",
            id="o",
            code={"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
            encounter={"reference": "Encounter/e/_history/4"},
        )
        apply(repository, entry("PUT", "Observation/o", observation))
        assert len(found(reading, "Observation", "code=http://loinc.org|718-7&encounter=e")) == 1
        assert found(reading, "Observation", "code=http://snomed.info/sct|718-7") == []

    @pytest.mark.parametrize(
        "query",
        [
            "name=x",
            "identifier:missing=true",
            "identifier=",
            "subject=3",
            "_count=x",
            "_lastUpdated=May",
            "_lastUpdated=2024-13",
            "_sort=_id",
            "_summary=true",
        ],
    )
    def test_what_cannot_be_searched_is_refused(self, query):
        """Ignoring a parameter would return what was not asked for."""
        with pytest.raises(FhirRefusal) as caught:
            parse_query("Observation", query)
        assert caught.value.status == 400

    def test_lenient_handling_ignores_unknown_parameters(self):
        assert parse_query("Patient", "name=x&identifier=A", lenient=True).terms[0].key == "Patient.identifier"

    def test_count_only(self, repository, reading):
        apply(repository, entry("POST", "Patient", identified("Patient", "A")))
        for query in ("_summary=count", "_count=0"):
            page = body_of(reading.read(views.search, parse_query("Patient", query), "u", query))
            assert (page["total"], "entry" in page) == (1, False)

    @pytest.mark.parametrize("version", ["9", "x", "0", "9" * 30])
    def test_a_version_that_never_was_is_not_found(self, repository, reading, version):
        apply(repository, entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}))
        with pytest.raises(FhirRefusal) as caught:
            reading.read(views.vread, "Patient", "p", version)
        assert caught.value.status == 404


class TestFile:
    def test_a_newer_schema_is_not_touched(self, tmp_path):
        """A program that does not know the schema must not write to it."""
        path = tmp_path / "n.db"
        newer = sqlite3.connect(path)
        newer.execute("PRAGMA user_version=99")
        newer.close()
        with pytest.raises(StoreCorrupt):
            open_repository(path)

    def test_a_file_that_is_no_database_is_corrupt(self, tmp_path):
        path = tmp_path / "x.db"
        path.write_bytes(b"not a database at all" * 100)
        with pytest.raises(StoreCorrupt):
            open_repository(path)

    def test_a_full_disk_refuses_the_group_and_recovers(self, repository, reading):
        """Nothing of the group is kept; with room again the same group is applied."""
        pages = repository._connection.execute("PRAGMA page_count").fetchone()[0]
        repository._connection.execute(f"PRAGMA max_page_count={pages}")
        group = [
            (f"k{number}", bundle(entry("POST", "Patient", identified("Patient", "A", text={"div": "x" * 9000})))) for number in range(4)
        ]
        with pytest.raises(StoreFull):
            repository.apply(group)
        assert found(reading, "Patient", by("A")) == []
        repository._connection.execute("PRAGMA max_page_count=100000")
        assert all(isinstance(result, Answer) for result in repository.apply(group))
        assert len(found(reading, "Patient", by("A"))) == 4

    def test_it_is_readable_by_its_owner_only(self, repository):
        assert repository.path.stat().st_mode & 0o777 == 0o600

    def test_a_closed_repository_says_so(self, repository):
        repository.close()
        with pytest.raises(StoreError):
            repository.apply([])


@pytest.mark.parametrize("method", [["POST"], 3, {}])
def test_a_method_of_another_type_is_refused(repository, method):
    """Found by the comparison of the quick check with the full one: it must not pass for an error of the server."""
    (result,) = repository.apply([("", bundle({"request": {"method": method, "url": "Patient"}}))])
    assert isinstance(result, FhirRefusal)
    assert result.status == 400


def test_a_repository_from_before_senders_were_kept_is_migrated(tmp_path):
    """What is in it belongs to nobody; what comes after belongs to its sender."""
    path = tmp_path / "fhir-repository.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.executescript((files("adapters.fhir") / "migrations" / "001_resources.sql").read_text() + "PRAGMA user_version=1;")
    old.execute("""INSERT INTO resource VALUES (1, 'Patient', 'p', 1, 0, 'PUT', '{"resourceType":"Patient","id":"p"}')""")
    old.close()
    opened = open_repository(path)
    opened.apply([("", bundle(entry("PUT", "Patient/q", {"resourceType": "Patient", "id": "q"})), "urn:party:a")])
    reading = Reading(path)
    for reader, seen in (("", ["p"]), ("urn:party:a", ["q"]), ("urn:party:b", []), (None, ["p", "q"])):
        query = parse_query("Patient", "")._replace(sender=reader)
        answer = json.loads(reading.read(views.search, query, "http://h/Patient", "").body)
        assert [one["resource"]["id"] for one in answer["entry"]] == seen
        assert answer["total"] == len(seen)
    reading.close()
    opened.close()


def test_a_search_of_ones_own_reads_an_index(repository):
    """Not every resource of the type."""
    statement, values = queries.find(parse_query("Patient", "")._replace(sender="urn:party:a"), 50)
    reading = sqlite3.connect(repository.path)
    plan = " ".join(row[3] for row in reading.execute(f"EXPLAIN QUERY PLAN {statement}", values))
    reading.close()
    assert "resource_by_sender (type=? AND sender=? AND rowid>?)" in plan
    assert "TEMP B-TREE" not in plan
