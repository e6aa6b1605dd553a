"""FHIR JSON read strictly and written exactly; element paths."""

import copy
import pickle

import pytest

from engine.errors import ParseError
from engine.formats import fhir

BUNDLE = (
    b'{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Observation","status":"final",'
    b'"subject":{"reference":"Patient/1"},"valueQuantity":{"value":1.50,"unit":"g"},"valueBoolean":true}},'
    b'{"resource":{"resourceType":"Patient","active":false,"multipleBirthInteger":2,"deceasedBoolean":null,"_birthDate":{"id":"b"}}}]}'
)


@pytest.mark.parametrize(
    "number",
    [
        "1.50",
        "0.10",
        "100",
        "1.0",
        "-0.0",
        "-0",
        "1e2",
        "1E+2",
        "1.5e-10",
        "0.000000000000000000001",
        "3.14159265358979323846264338327950288",
        "12345678901234567890123",
        "-9223372036854775809",
        "18446744073709551616",
        "9" * 400,
        "1e400",
    ],
)
def test_a_number_keeps_its_digits(number: str) -> None:
    """1.50 is not 1.5 (FHIR R4 datatypes#decimal); nor does size or exponent change anything. Compact or with white space."""
    for body in (f'{{"value":{number}}}', f'{{ "value" : {number} , "a":[{number}] }}'):
        parsed = fhir.parse(body.encode())
        assert f'"value":{number}' in fhir.dump(parsed).decode()
        assert fhir.Resource(parsed).get("value") == number
        assert float(parsed["value"]) == float(number)


def test_exact_numbers_can_be_copied_and_sent_to_another_process() -> None:
    """A mapping may copy what it was given, and workers pickle it."""
    value = fhir.parse(b'{"a": 1.50}')
    for again in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert fhir.dump(again) == b'{"a":1.50}'


def test_keys_keep_their_order() -> None:
    """What is written is what was given, byte for byte where it was compact."""
    assert fhir.dump(fhir.parse(BUNDLE)) == BUNDLE
    assert fhir.dump({"b": 1, "a": {"d": "ä", "c": []}}) == '{"b":1,"a":{"d":"ä","c":[]}}'.encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a":1,"a":1}', "'a' occurs twice"),
        (b'{"x":[{"a":1,"b":2,"a":3}]}', "'a' occurs twice"),
        (b'{"a":1,"\\u0061":2}', "'a' occurs twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "Infinity is not JSON"),
        (b'{"a":01}', "line 1 column"),
        (b'{"a":1,}', "line 1 column"),
        (b'{"a":"\x01"}', "control character"),
        (b'{"a":1} x', "Extra data"),
        (b"", "line 1 column 1"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        ('{"a":"é"}'.encode("latin-1"), "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "not JSON"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\uDFFF":"x"}', "surrogate"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_refused_says_why(body: bytes, why: str) -> None:
    """ParseError and nothing else; two readers must never see different values in one body."""
    with pytest.raises(ParseError, match=why):
        fhir.parse(body)


def test_a_byte_order_mark_is_ignored() -> None:
    """RFC 8259 8.1 lets a reader do so."""
    assert fhir.parse(b'\xef\xbb\xbf{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("resourceType", "Bundle"),
        ("entry[0].resource.resourceType", "Observation"),
        ("entry.resource.subject.reference", "Patient/1"),
        ("entry[0].resource.valueQuantity.value", "1.50"),
        ("entry[0].resource.valueQuantity", '{"value":1.50,"unit":"g"}'),
        ("entry[0].resource.valueBoolean", "true"),
        ("entry[1].resource.active", "false"),
        ("entry[1].resource.multipleBirthInteger", "2"),
        ("entry[1].resource.deceasedBoolean", None),
        ("entry[1].resource._birthDate.id", "b"),
        ("entry[2].resource", None),
        ("entry[0].resource.status.code", None),
        ("type[1]", None),
        ("type[0]", "transaction"),
        ("nothing.here", None),
    ],
)
def test_an_element_path(path: str, expected: str | None) -> None:
    """Dotted element names; an array without an index means its first element; parts below come as JSON."""
    assert fhir.codec.decode(BUNDLE).get(path) == expected


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", "a[x]", "a[-1]", "a[1", "a b", "Patient/1", "a[]", "a.where(b)", "a[１]"])
def test_an_impossible_path_is_refused(path: str) -> None:
    """ValueError, from the document and from `meridian check`."""
    for ask in (fhir.codec.check_path, fhir.codec.decode(BUNDLE).get):
        with pytest.raises(ValueError, match="element path"):
            ask(path)
