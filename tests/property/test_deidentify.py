"""Identifiers planted anywhere never come out: what cannot be cleaned is held. Pseudonyms are stable, and the same in every format."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from engine.deidentify import fhir, hl7v2
from engine.deidentify.policy import OPTIONS
from engine.errors import Quarantined
from engine.formats.hl7v2 import decode
from tests.support.deidentify import cleaned_file, file_of, image, policy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of what is planted, which is often too long for its place

_LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 1024, "LT": 10240, "UT": 10240, "UC": 10240}
_GROUPS = range(0x0008, 0x4010)
TEXTS = sorted(
    tag for tag, entry in DicomDictionary.items() if entry[0] in _LONGEST and tag >> 16 in _GROUPS and entry[1] == "1" and tag != 0x00080005
)
SEQUENCES = sorted(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ" and tag >> 16 in _GROUPS)

LATIN = st.text("abdeghiklmnoprstuvwz", min_size=4, max_size=9).map(str.title)
HAN = st.text("王李张刘陈杨黄赵吴周徐孙马朱胡林郭何高罗", min_size=3, max_size=4).map(lambda name: f"{name[0]}^{name[1:]}")
NAMES = st.one_of(st.tuples(LATIN, LATIN).map("^".join), HAN)
NUMBERS = st.one_of(
    st.integers(10**5, 10**9).map(str),
    st.tuples(st.sampled_from(["MRN", "P-", "ZA"]), st.integers(10**4, 10**7)).map(lambda one: f"{one[0]}{one[1]}"),
)
PLACES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(SEQUENCES), max_size=3),  # the way down
        st.one_of(st.sampled_from(TEXTS), st.sampled_from([0x00091010, 0x00291008, 0x7FDF10AA])),
        st.sampled_from(["name", "number", "born", "telephone"]),
        st.sampled_from(["{}", "see {}", "{}, seen", "a {} b"]),
    ),
    min_size=1,
    max_size=6,
)


def planted(places: Any, facts: dict[str, str]) -> Dataset:
    dataset = image(PatientName=facts["name"], PatientID=facts["number"], PatientBirthDate=facts["born"])
    dataset.PatientTelephoneNumbers = facts["telephone"]
    dataset.SpecificCharacterSet = facts["charset"]
    for way, tag, fact, words in places:
        here = dataset
        for step in way:
            if step not in here:
                here.add_new(step, "SQ", [Dataset()])
            here = here[step].value[0]
        entry = DicomDictionary.get(tag)
        vr = entry[0] if entry else "LO"
        if not entry:
            here.add_new(tag & 0xFFFF0000 | tag >> 8 & 0xFF, "LO", "ACME")
        text = words.format(facts[fact])
        if vr not in ("CS", "AE"):
            here.add_new(tag, vr, text)
        elif text.isascii():
            here.add_new(tag, vr, text.upper())
    return dataset


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    PLACES,
    NAMES,
    NUMBERS,
    st.dates().map(lambda one: f"{max(one.year, 1000):04d}{one.month:02d}{one.day:02d}"),
    st.integers(10**9, 10**10).map(str),
    st.sampled_from(["ISO_IR 192", "GB18030"]),
    st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]),
    st.lists(st.sampled_from(OPTIONS), unique=True),
)
def test_planted_identifiers_never_come_out(
    places: Any, name: str, number: str, born: str, telephone: str, charset: str, syntax: str, options: list[str]
) -> None:
    """In whatever attribute, item or private block: the result has none of them in any text, nor in its bytes; the same file gives the same."""
    facts = {"name": name, "number": number, "born": born, "telephone": telephone, "charset": charset}
    content = file_of(planted(places, facts), syntax)
    rules = policy(options=options, private=["(0009,xx10) ACME", "(0029,xx08) ACME"])
    try:
        made = cleaned_file(content, rules)
    except Quarantined as held:
        assert not any(fact in str(held) for fact in facts.values())
        return
    assert made == cleaned_file(content, rules)
    texts = [str(element.value).casefold() for element in pydicom.dcmread(BytesIO(made)).iterall() if element.VR != "SQ"]
    whole = name.replace("^", "") if name[0] > "z" else name
    for word in (*name.split("^"), whole, number, born, telephone):
        if len(word) > 1:
            assert not [text for text in texts if word.casefold() in text.split() or (len(word) > 5 and word.casefold() in text)]
    for word in (number, name.partition("^")[0] if name[0] < "z" else whole):
        assert (
            charset is None
            or word.encode("utf-8" if charset == "ISO_IR 192" else "gb18030") not in made
            or syntax == DeflatedExplicitVRLittleEndian
        )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0x00104000, 0x00081030, 0x00204000, 0x00081010, 0x00080080]), st.sampled_from(["name", "number"])),
        min_size=1,
    )
)
def test_what_the_table_names_passes_and_is_not_held(places: Any) -> None:
    """So that the property before does not hold because everything is held."""
    facts = {"name": "Quixote^Alonso", "number": "MRN4711", "born": "19470131", "telephone": "0301234567", "charset": "ISO_IR 192"}
    cleaned_file(file_of(planted([([], tag, fact, "see {}") for tag, fact in places], facts)), policy())


@settings(max_examples=80, deadline=None)
@given(NUMBERS, st.sampled_from(["HIS", "RIS 2", "Klinik"]), st.sampled_from(["", "1.2.3.4"]), st.sampled_from(["shift", "remove"]))
def test_the_same_identifier_is_the_same_in_every_format(number: str, namespace: str, oid: str, dates: str) -> None:
    """By the same authority, and its dates move alike."""
    rules = policy(dates=dates)
    dataset = image(PatientID=number, IssuerOfPatientID=namespace, StudyDate="20240301")
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = oid, "ISO"
    if oid:
        dataset.IssuerOfPatientIDQualifiersSequence = [qualifier]
    authority = f"{namespace}&{oid}&ISO" if oid else namespace
    lines = ["MSH|^~\\&|A|B|C|D|20240301||ADT^A01|1|P|2.5", f"PID|1||{number}^^^{authority}||X", "DG1|1||A^B^C||20240301", ""]
    system = f"urn:oid:{oid}" if oid else f"urn:meridian:ns:{namespace.replace(' ', '%20')}"
    resource = {"resourceType": "Patient", "identifier": [{"system": system, "value": number}], "deceasedDateTime": "2024-03-01"}
    image_made = pydicom.dcmread(BytesIO(cleaned_file(file_of(dataset), rules)))
    message_made = decode(hl7v2.deidentify("\r".join(lines).encode(), rules))
    resource_made = orjson.loads(fhir.deidentify(orjson.dumps(resource), rules))
    assert image_made.PatientID == message_made.get("PID-3.1") == resource_made["identifier"][0]["value"] != number
    assert image_made.StudyDate == (message_made.get("DG1-5") or "") == resource_made.get("deceasedDateTime", "").replace("-", "")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ZXY", "NTE", "OBX", "PV1", "OBR", "AL1", "IN1", "SPM"]),
            st.integers(1, 30),
            st.sampled_from(["name", "number"]),
        ),
        max_size=6,
    ),
    st.tuples(LATIN, LATIN),
    NUMBERS,
)
def test_planted_identifiers_never_come_out_of_messages(places: Any, name: tuple[str, str], number: str) -> None:
    """In any field of any segment."""
    facts = {"name": f"Mr {name[0]}", "number": number}
    lines = ["MSH|^~\\&|A|B|C|D|20240301||ORU^R01|1|P|2.5", f"PID|1||{number}^^^HIS||{name[0]}^{name[1]}"]
    lines += [f"{segment}{'|' * field}{facts[fact]}" for segment, field, fact in places]
    try:
        made = hl7v2.deidentify("\r".join([*lines, ""]).encode(), policy())
    except Quarantined as held:
        assert name[0] not in str(held)
        return
    assert name[0].encode() not in made.replace(b"REMOVED", b"")
    assert number.encode() not in made


JSON = st.recursive(
    st.sampled_from(["{name}", "{number}", "see {name}", "x", "2024-03-01"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["note", "text", "code", "valueString", "extension", "display", "item", "title"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.tuples(LATIN, LATIN), NUMBERS)
def test_planted_identifiers_never_come_out_of_resources(value: Any, name: tuple[str, str], number: str) -> None:
    """In any element, of any shape."""
    patient = {"resourceType": "Patient", "name": [{"family": name[0], "given": [name[1]]}], "identifier": [{"value": number}]}
    other = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "strange": value, "note": value}
    content = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}, {"resource": other}]})
    content = content.replace(b"{name}", name[0].encode()).replace(b"{number}", number.encode())
    try:
        made = fhir.deidentify(content, policy())
    except Quarantined as held:
        assert name[0] not in str(held)
        return
    assert name[0].encode() not in made.replace(b"REMOVED", b"")
    assert number.encode() not in made
