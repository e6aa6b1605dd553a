"""Random interactions against a model: what the repository keeps and answers is what a dictionary of versions would."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.fhir import views
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.repository import Reading
from adapters.fhir.search import parse_query
from tests.support.fhir import SYSTEM, body_of, bundle, entry, identified, open_repository

IDS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["X", "Y", "Z"])


class RepositoryAgainstModel(RuleBasedStateMachine):
    """The model: id -> versions, each the identifier's value, None for deleted."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "r.db"
        self.repository = open_repository(self.path)
        self.reading = Reading(self.path)
        self.model = {}
        self.answers = {}
        self.created = 0

    def teardown(self):
        self.reading.close()
        self.repository.close()
        self.folder.cleanup()

    def apply(self, *entries, key=""):
        body = bundle(*entries)
        (result,) = self.repository.apply([(key, body)])
        if key and isinstance(result, Answer):
            self.answers[key] = (body, result)
        return result

    def current(self, name):
        return [resource_id for resource_id, versions in self.model.items() if versions[-1] == name]

    @rule(resource_id=IDS, name=NAMES)
    def update(self, resource_id, name):
        result = self.apply(entry("PUT", f"Patient/{resource_id}", identified("Patient", name, id=resource_id)))
        assert isinstance(result, Answer)
        self.model.setdefault(resource_id, []).append(name)

    @rule(resource_id=IDS, name=NAMES, version=st.integers(1, 4))
    def update_if_match(self, resource_id, name, version):
        result = self.apply(entry("PUT", f"Patient/{resource_id}", identified("Patient", name, id=resource_id), ifMatch=f'W/"{version}"'))
        if len(self.model.get(resource_id, ())) == version:
            assert isinstance(result, Answer)
            self.model[resource_id].append(name)
        else:
            assert isinstance(result, FhirRefusal)
            assert result.status == 412

    @rule(name=NAMES, to=NAMES)
    def conditional_update(self, name, to):
        matches = self.current(name)
        result = self.apply(entry("PUT", f"Patient?identifier={SYSTEM}|{name}", identified("Patient", to)))
        if len(matches) > 1:
            assert isinstance(result, FhirRefusal)
            return
        location = body_of(result)["entry"][0]["response"]["location"]
        self.model.setdefault(location.split("/")[1], []).append(to)
        if matches:
            assert location.split("/")[1] == matches[0]

    @rule(name=NAMES)
    def conditional_create(self, name):
        matches = self.current(name)
        result = self.apply(entry("POST", "Patient", identified("Patient", name), ifNoneExist=f"identifier={SYSTEM}|{name}"))
        if len(matches) > 1:
            assert isinstance(result, FhirRefusal)
            return
        resource_id = body_of(result)["entry"][0]["response"]["location"].split("/")[1]
        assert (resource_id in self.model) == bool(matches)
        self.model.setdefault(resource_id, [name])

    @rule(resource_id=IDS)
    def delete(self, resource_id):
        self.apply(entry("DELETE", f"Patient/{resource_id}"))
        if self.model.get(resource_id, [None])[-1] is not None:
            self.model[resource_id].append(None)

    @rule(first=IDS, name=NAMES)
    def refused_transaction(self, first, name):
        """An entry that fails undoes the one before it."""
        result = self.apply(
            entry("PUT", f"Patient/{first}", identified("Patient", name, id=first)),
            entry("PUT", "Patient/zz", {"resourceType": "Patient", "id": "zz"}, ifMatch='W/"9"'),
        )
        assert isinstance(result, FhirRefusal)

    @rule(resource_id=IDS, name=NAMES, key=st.sampled_from(["k1", "k2", "k3"]))
    def keyed_update(self, resource_id, name, key):
        """A key that was answered is answered again and changes nothing; with another Bundle it is refused."""
        known = self.answers.get(key)
        change = entry("PUT", f"Patient/{resource_id}", identified("Patient", name, id=resource_id))
        result = self.apply(change, key=key)
        if known is None:
            self.model.setdefault(resource_id, []).append(name)
        elif known[0] == bundle(change):
            assert result == known[1]
        else:
            assert isinstance(result, FhirRefusal)

    @rule()
    def restart(self):
        """Close and open again: nothing depends on memory. Ids go on where they were."""
        taken = [resource_id for resource_id in self.model if resource_id.startswith("n")]
        self.repository.close()
        self.repository = open_repository(self.path)
        for _ in range(max((int(resource_id[1:]) for resource_id in taken), default=0)):
            self.repository._new_id()

    @invariant()
    def everything_is_as_in_the_model(self):
        for resource_id, versions in self.model.items():
            history = body_of(self.reading.read(views.history, "Patient", resource_id, "u", []))
            kept = [part.get("resource", {}).get("identifier", [{"value": None}])[0]["value"] for part in history["entry"]]
            assert kept == versions[::-1]
        for name in "XYZ":
            query = f"identifier={SYSTEM}|{name}"
            found = body_of(self.reading.read(views.search, parse_query("Patient", query), "u", query))
            assert sorted(part["resource"]["id"] for part in found["entry"]) == sorted(self.current(name))


RepositoryAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestRepositoryAgainstModel = RepositoryAgainstModel.TestCase
