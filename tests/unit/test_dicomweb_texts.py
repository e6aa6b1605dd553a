"""Media types, resources, queries, instances in pieces, store responses, XML: all without a socket."""

import hashlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from adapters.dicom.web.answers import multipart
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import DICOM_JSON, DICOM_XML, acceptable, choose, covers, parse_accept, parse_media_type
from adapters.dicom.web.native_model import native_model
from adapters.dicom.web.outcomes import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Outcome, answer, response
from adapters.dicom.web.part10 import HEAD, FileReading, data_set_offset
from adapters.dicom.web.queries import FUZZY, read_query, result
from adapters.dicom.web.targets import find_target
from engine.errors import ParseError
from tests.contracts.framer_contract import CUTS, chunked
from tests.support.dicom_instances import instance

# --- media types -------------------------------------------------------------------------------------


def test_a_media_type_with_its_parameters():
    """Quoted or not, in any case."""
    media = parse_media_type('Multipart/Related; TYPE="application/dicom"; boundary=a=b ;transfer-syntax=*')
    assert (media.name, media.inner, media.transfer_syntax, media.parameters["boundary"]) == (
        "multipart/related",
        "application/dicom",
        "*",
        "a=b",
    )
    assert parse_media_type(r'a/b; c="d\"e;f"').parameters == {"c": 'd"e;f'}


def test_ranges_come_best_first_and_what_is_not_wanted_not_at_all():
    """RFC 9110 12.4.2."""
    found = parse_accept("text/html;q=0.1, application/dicom+xml;q=0, application/dicom+json, */*;q=0.5")
    assert [one.name for one in found] == ["application/dicom+json", "*/*", "text/html"]


@pytest.mark.parametrize("text", ["json", "a/b;;c=d e", "a/b c/d", "/", "a/b, ,", "x" * 5000])
def test_what_is_no_list_of_media_types(text):
    """400."""
    with pytest.raises(WebRefusal) as refused:
        parse_accept(text)
    assert refused.value.status == 400


@given(st.text(max_size=60))
def test_no_accept_breaks_the_reader(text):
    """Whatever it says."""
    try:
        parse_accept(text)
    except WebRefusal as refused:
        assert refused.status == 400


def test_the_parameter_outweighs_the_header_and_nothing_means_anything():
    """PS3.18 8.3.3.1."""
    offered = {DICOM_JSON: "", DICOM_XML: "multipart"}
    both = {"accept": 'multipart/related; type="application/dicom+xml"'}
    assert choose(acceptable(both), offered) == DICOM_XML
    assert choose(acceptable(both, "application/dicom+json"), offered) == DICOM_JSON
    assert choose(acceptable({}), offered) == DICOM_JSON
    for unwanted in ("image/jpeg", "application/dicom+xml", 'multipart/related; type="application/dicom+json"'):
        with pytest.raises(WebRefusal) as refused:
            choose(acceptable({"accept": unwanted}), offered)
        assert refused.value.status == 406
        assert "application/dicom+json" in refused.value.text
    assert covers("image/*", "image/png")
    assert not covers("image/*", "application/dicom")


# --- resources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ("capabilities", "", "", "", "")),
        ("/studies", ("query", "studies", "", "", "")),
        ("/series", ("query", "series", "", "", "")),
        ("/instances/", ("query", "instances", "", "", "")),
        ("/studies/1.2", ("retrieve", "studies", "1.2", "", "")),
        ("/studies/1.2/series", ("query", "series", "1.2", "", "")),
        ("/studies/1.2/instances", ("query", "instances", "1.2", "", "")),
        ("/studies/1.2/metadata", ("metadata", "studies", "1.2", "", "")),
        ("/studies/1.2/series/3", ("retrieve", "series", "1.2", "3", "")),
        ("/studies/1.2/series/3/instances", ("query", "instances", "1.2", "3", "")),
        ("/studies/1.2/series/3/instances/4", ("retrieve", "instances", "1.2", "3", "4")),
        ("/studies/1.2/series/3/instances/4/metadata", ("metadata", "instances", "1.2", "3", "4")),
        ("/studies/1.2/series/3/instances/4/rendered", ("rendered", "instances", "1.2", "3", "4")),
        ("/studies/1.2/series/3/instances/4/frames/1,2", ("frames", "instances", "1.2", "3", "4")),
        ("/studies/1.2/series/3/instances/4/frames/2/rendered", ("rendered", "instances", "1.2", "3", "4")),
        ("/studies/1.2/series/3/instances/4/bulkdata/7FE00010", ("bulkdata", "instances", "1.2", "3", "4")),
    ],
)
def test_every_path_of_the_studies_service(path, found):
    """PS3.18 tables 10.4.1-1, 10.6.1-1."""
    target = find_target("GET", f"/dicom-web{path}?limit=3", "/dicom-web")
    assert (target.kind, target.level, target.study, target.series, target.instance) == found
    assert target.parameter("limit") == "3"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/elsewhere", 404),
        ("GET", "/dicom-webs/studies", 404),
        ("GET", "/dicom-web/patients", 404),
        ("GET", "/dicom-web/series/1.2", 404),
        ("GET", "/dicom-web/studies/1.2/instances/3", 404),
        ("GET", "/dicom-web/studies/1.2/frames/1", 404),
        ("GET", "/dicom-web/studies/../../etc/passwd", 400),
        ("GET", "/dicom-web/studies/" + "1" * 65, 400),
        ("GET", "/dicom-web/studies/1/series/2/instances/3/frames/0", 400),
        ("GET", "/dicom-web/studies/1/series/2/instances/3/frames/one", 400),
        ("GET", "/dicom-web/studies/1/series/2/instances/3/frames/1/metadata", 404),
        ("GET", "/dicom-web/studies/1/series/2/instances/3/frames/" + ",".join("1" * 2000), 400),
        ("GET", "/dicom-web/studies?" + "&".join("a=b" for _ in range(300)), 400),
        ("POST", "/dicom-web/series", 405),
        ("POST", "/dicom-web/studies/1/series/2", 405),
        ("DELETE", "/dicom-web/studies/1", 405),
    ],
)
def test_what_is_not_there(method, path, status):
    """404, 405 with Allow, 400."""
    with pytest.raises(WebRefusal) as refused:
        find_target(method, path, "/dicom-web")
    assert refused.value.status == status
    assert ("Allow" in refused.value.headers) is (status == 405)


# --- queries -----------------------------------------------------------------------------------------


def query(path):
    return read_query(find_target("GET", path, ""))


def test_attributes_by_keyword_by_tag_and_in_sequences():
    """PS3.18 8.3.4.1."""
    found = query(
        "/studies/1.2/series?PatientID=4711&00100010=%E7%8E%8B*&SeriesNumber=2&SeriesInstanceUID=1.2,1.3"
        "&RequestAttributesSequence.ScheduledProcedureStepID=A1&00400275.RequestedProcedureID=R1&SeriesDate="
    )
    assert found.keys == {
        "00100020": {"vr": "LO", "Value": ["4711"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "王*"}]},
        "00200011": {"vr": "IS", "Value": [2]},
        "0020000E": {"vr": "UI", "Value": ["1.2", "1.3"]},
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["A1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}}]},
        "00080021": {"vr": "DA"},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
    }
    assert found.returned is not None
    assert "00080021" in found.returned


def test_pages_fields_and_warnings():
    """limit, offset, includefield, fuzzymatching (8.3.4.2 to 8.3.4.5), and what cannot be matched here."""
    found = query("/studies?limit=10&offset=20&includefield=StudyComments,00081010&fuzzymatching=true&Modality=CT")
    assert (found.limit, found.offset) == (10, 20)
    assert {"00324000", "00081010"} <= (found.returned or set())
    assert found.warnings == (FUZZY, "The following query parameters are not supported: Modality")
    assert "00080060" not in found.keys
    assert query("/studies?includefield=all").returned is None


@pytest.mark.parametrize(
    "text", ["limit=many", "limit=-1", "offset=", "NoSuchAttribute=1", "includefield=NoSuch", "a.b.c.d.e.f=1", "limit=\u0663"]
)
def test_what_cannot_be_asked(text):
    """400."""
    with pytest.raises(WebRefusal) as refused:
        query(f"/studies?{text}")
    assert refused.value.status == 400


def test_a_result_says_what_was_asked_for_and_where_it_is():
    """The attributes of the path are not said again but for the UIDs (10.6.3.3)."""
    known = {
        "0020000D": {"vr": "UI", "Value": ["1"]},
        "0020000E": {"vr": "UI", "Value": ["2"]},
        "00080018": {"vr": "UI", "Value": ["3"]},
        "00100020": {"vr": "LO", "Value": ["P"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00280010": {"vr": "US", "Value": [16]},
        "00181030": {"vr": "LO", "Value": ["protocol"]},
    }
    inside = result(query("/studies/1/series/2/instances"), known, "http://h/w")
    assert inside["00081190"]["Value"] == ["http://h/w/studies/1/series/2/instances/3"]
    assert "00100020" not in inside
    assert "00280010" in inside
    everywhere = result(query("/instances?ProtocolName="), known, "http://h/w")
    assert {"00100020", "00080060", "00181030", "00080005"} <= set(everywhere)
    assert result(query("/studies"), known, "b")["00081190"]["Value"] == ["b/studies/1"]


# --- instances in pieces -----------------------------------------------------------------------------


@given(CUTS, st.sampled_from([512, 65536, 200_000]))
def test_the_digest_is_that_of_the_data_set_in_any_chunking(cuts, pixels):
    """The file meta information does not count."""
    content = instance(1, pixels=pixels)
    reading = FileReading()
    for chunk in chunked(content, cuts):
        reading.feed(chunk)
    digest = reading.finish()
    begins = data_set_offset(content)
    assert content[begins : begins + 4] == b"\x08\x00\x16\x00"
    assert digest == hashlib.sha256(content[begins:]).digest()
    assert (reading.size, bytes(reading.head)) == (len(content), content[:HEAD])


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(lambda rest: bytes(128) + b"DICM\x02\x00" + rest)))
def test_what_is_no_file_is_a_parse_error(content):
    """Nothing else."""
    reading = FileReading()
    reading.feed(content)
    try:
        reading.finish()
    except ParseError:
        assert not reading.data_set


# --- answers -----------------------------------------------------------------------------------------

STORED = Outcome("1.2.840.10008.5.1.4.1.1.2", "1.1", "1", "2")


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([STORED], 200),
        ([STORED, Outcome("c", "1.2", reason=CANNOT_UNDERSTAND)], 202),
        ([Outcome("c", "1.2", reason=CANNOT_UNDERSTAND)], 409),
        ([Outcome("c", "1.2", reason=OUT_OF_RESOURCES)], 503),
        ([Outcome(reason=CANNOT_UNDERSTAND)], 400),
        ([], 400),
    ],
)
def test_the_status_of_a_store_response(outcomes, status):
    """PS3.18 table 10.5.3-1."""
    assert answer(outcomes, "", DICOM_JSON).status == status


def test_a_store_response_names_each_instance():
    """Annex I.2: stored, failed, and what has no UID."""
    said = response([STORED, Outcome("1.2.3", "1.2", reason=0xC409, text="t"), Outcome(reason=CANNOT_UNDERSTAND)], "http://h/w")
    assert said["00081190"]["Value"] == ["http://h/w/studies/1"]
    (stored,) = said["00081199"]["Value"]
    assert stored["00081155"]["Value"] == ["1.1"]
    assert stored["00081190"]["Value"] == ["http://h/w/studies/1/series/2/instances/1.1"]
    (failed,) = said["00081198"]["Value"]
    assert (failed["00081155"]["Value"], failed["00081197"]["Value"]) == (["1.2"], [0xC409])
    assert said["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [CANNOT_UNDERSTAND]}}]
    assert "00081190" not in response([STORED], "")["00081199"]["Value"][0]
    assert Dataset.from_json(said).FailedSOPSequence[0].FailureReason == 0xC409


def test_the_native_model():
    """PS3.19 A.1, and characters that XML does not have."""
    root = ElementTree.fromstring(
        native_model(
            {
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wang^Xiao", "Ideographic": "王^小<东>"}]},
                "00081115": {"vr": "SQ", "Value": [{"0020000E": {"vr": "UI", "Value": ["1.2"]}}]},
                "7FE00010": {"vr": "OW", "BulkDataURI": "http://h/a?b&c"},
                "00080050": {"vr": "SH", "Value": [None, "a\x00b"]},
                "00090010": {"vr": "UN", "InlineBinary": "AAE="},
            }
        )
    )
    ns = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    by_tag = {one.get("tag"): one for one in root}
    name = by_tag["00100010"]
    assert name.get("keyword") == "PatientName"
    assert name.findtext(f"{ns}PersonName/{ns}Ideographic/{ns}GivenName") == "小<东>"
    assert by_tag["00081115"].findtext(f"{ns}Item/{ns}DicomAttribute/{ns}Value") == "1.2"
    assert by_tag["7FE00010"].find(f"{ns}BulkData").get("uri") == "http://h/a?b&c"
    (value,) = by_tag["00080050"]
    assert (value.get("number"), value.text) == ("2", "a\ufffdb")
    assert by_tag["00090010"].findtext(f"{ns}InlineBinary") == "AAE="


def test_the_length_of_a_multipart_answer_is_known_before():
    """So that a client knows whether it has all of it."""
    made = multipart([({"Content-Type": "a/b"}, [b"one"]), ({}, [])], "a/b", "B")
    assert b"".join(made.content) == b"--B\r\nContent-Type: a/b\r\n\r\none\r\n--B\r\n\r\n\r\n--B--\r\n"
    assert made.length == len(b"".join(made.content))
