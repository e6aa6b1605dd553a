"""Bundle entries as requests: the quick check refuses what the full reading refuses."""

import itertools

import pytest

from adapters.fhir.entries import check_entry, read_entry
from adapters.fhir.outcome import FhirRefusal

METHODS = ["POST", "PUT", "DELETE", "GET", "PATCH", 3, ["POST"], None]
URLS = ["Patient", "Patient?identifier=1", "Patient/p", "Shoe", "Shoe?x", "", 3, ["Patient"], None]
RESOURCES = [
    {"resourceType": "Patient"},
    {"resourceType": "Patient", "id": "p"},
    {"resourceType": "Patient", "id": "_"},
    {"resourceType": "Patient", "meta": 3},
    {"resourceType": "Shoe"},
    {"resourceType": ["Patient"]},
    [],
    None,
]
MORE = [{}, {"ifMatch": 'W/"1"'}, {"ifMatch": "1"}]


def refused(function, entry):
    try:
        function(entry, 0)
    except FhirRefusal as error:
        return error.status
    return None


@pytest.mark.parametrize("method", METHODS)
def test_the_quick_check_agrees_with_the_full_one(method):
    """Every combination of methods, urls, resources and conditions."""
    for url, resource, more in itertools.product(URLS, RESOURCES, MORE):
        entry = {"request": {"method": method, "url": url, **more}, "resource": resource}
        assert refused(check_entry, entry) == refused(read_entry, entry), entry


@pytest.mark.parametrize("entry", [None, 3, [], {}, {"request": 3}, {"request": {"method": "POST", "url": "Patient"}}])
def test_what_is_no_entry_is_refused(entry):
    assert refused(check_entry, entry) == refused(read_entry, entry) == 400
