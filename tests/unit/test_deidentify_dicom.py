"""DICOM: each action of PS3.15 table E.1-1 and each option, sequences, private attributes, files of every encoding, and what is held back."""

from __future__ import annotations

import hashlib
import tracemalloc
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)

from engine.deidentify.dicom import instance
from engine.deidentify.dicom.table import rows
from engine.errors import Quarantined
from tests.support.deidentify import FILES, cleaned, cleaned_file, file_of, image, policy

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def test_the_patient_is_a_pseudonym_and_nothing_else_is_known() -> None:
    """Identifier and name are the pseudonym, dates are empty, and it is said how (0012,0062) to (0012,0064), (0028,0303)."""
    made = cleaned(image(PatientAddress="12 Long Lane", InstitutionName="General", StationName="CT1", OperatorsName="Doe^J"), policy())
    assert made.PatientID == made.PatientName == policy().person("urn:meridian:ns:HIS", "MRN4711").pseudonym
    assert (made.PatientBirthDate, made.PatientSex, made.StudyDate) == ("", "", "")
    assert "PatientAddress" not in made
    assert "IssuerOfPatientID" not in made
    assert (made.InstitutionName, made.StationName, made.OperatorsName) == ("REMOVED", "REMOVED", "REMOVED")
    assert made.AccessionNumber == policy().pseudonyms.identifier("", "ACC00017")
    assert (made.PatientIdentityRemoved, made.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in made.DeidentificationMethodCodeSequence] == [("113100", "DCM")]
    assert made.DeidentificationMethod == "DCM 113100"


@pytest.mark.parametrize(
    ("option", "code", "keyword", "value"),
    [
        ("retain-uids", "113110", "StudyInstanceUID", "1.2.826.0.1.3680043.2.2"),
        ("retain-device", "113109", "StationName", "CT1"),
        ("retain-institution", "113112", "InstitutionName", "General"),
        ("retain-patient-characteristics", "113108", "PatientSex", "M"),
        ("clean-descriptors", "113105", "StudyDescription", "Head without contrast"),
    ],
)
def test_an_option_keeps_what_it_says_and_is_declared(option: str, code: str, keyword: str, value: str) -> None:
    """And without it that is not there."""
    source = {"StationName": "CT1", "InstitutionName": "General", "StudyDescription": "Head without contrast"}
    made = cleaned(image(**source), policy(options=[option]))
    assert made[keyword].value == value
    assert code in [one.CodeValue for one in made.DeidentificationMethodCodeSequence]
    assert cleaned(image(**source), policy()).get(keyword) != value


def test_dates_move_together_or_stay() -> None:
    """By the days of the patient; times of day stay. The date of birth is never among them."""
    times = {"StudyTime": "121314.5", "AcquisitionDateTime": "20240302101112+0800", "SeriesDate": "20240302"}
    shift = policy().pseudonyms.shift("urn:meridian:ns:HIS", "MRN4711")
    made = cleaned(image(**times), policy(dates="shift"))
    moved = pydicom.valuerep.DA("20240301") - timedelta(days=shift.days)
    assert made.StudyDate == moved.strftime("%Y%m%d")
    assert made.StudyTime == "121314.5"
    assert str(made.AcquisitionDateTime)[8:] == "101112+0800"
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    kept = cleaned(image(**times), policy(dates="keep"))
    assert (kept.StudyDate, kept.PatientBirthDate, kept.LongitudinalTemporalInformationModified) == ("20240301", "", "UNMODIFIED")


def test_dates_of_nobody_are_removed_rather_than_moved() -> None:
    """Without an identifier there is no stable shift."""
    made = cleaned(image(PatientID="", PatientName="", AccessionNumber=""), policy(dates="shift"))
    assert (made.StudyDate, made.PatientID, made.LongitudinalTemporalInformationModified) == ("", "", "REMOVED")


def test_uids_are_replaced_wherever_they_stand_and_still_refer() -> None:
    """In the file meta information and in sequences; those of the standard stay."""
    dataset = image(
        ReferencedImageSequence=[
            item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.826.0.1.3680043.2.1")
        ]
    )
    dataset.PerformedProtocolCodeSequence = [
        item(CodeValue="1", CodingSchemeDesignator="L", CodeMeaning="m", CodingSchemeUID="2.16.840.1.1")
    ]
    made = cleaned(dataset, policy())
    reference = made.ReferencedImageSequence[0]
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == reference.ReferencedSOPInstanceUID
    assert made.SOPInstanceUID == policy().pseudonyms.uid("1.2.826.0.1.3680043.2.1")
    assert (made.SOPClassUID, reference.ReferencedSOPClassUID) == ("1.2.840.10008.5.1.4.1.1.2",) * 2
    assert made.PerformedProtocolCodeSequence[0].CodingSchemeUID == "2.16.840.1.1"


def test_sequences_at_any_depth() -> None:
    """What names somebody in an item of an item goes as it does on top."""
    inner = item(PatientName="Quixote^Alonso", OperatorsName="Doe^J", ScheduledProcedureStepID="S1", Modality="CT")
    dataset = image(SharedFunctionalGroupsSequence=[item(DerivationImageSequence=[item(PurposeOfReferenceCodeSequence=[inner])])])
    found = cleaned(dataset, policy()).SharedFunctionalGroupsSequence[0].DerivationImageSequence[0].PurposeOfReferenceCodeSequence[0]
    assert (found.OperatorsName, found.Modality) == ("REMOVED", "CT")
    assert "ScheduledProcedureStepID" not in found


def test_a_report_is_a_husk_and_keeps_its_codes_with_the_option() -> None:
    """Content Sequence is D: its shape stays, nothing of what it says. Clean Structured Content keeps numbers and codes, text is cleaned."""
    concept = item(CodeValue="121071", CodingSchemeDesignator="DCM", CodeMeaning="Finding")
    value = item(CodeValue="T-1", CodingSchemeDesignator="SRT", CodeMeaning="Nodule")
    text = item(ValueType="TEXT", ConceptNameCodeSequence=[concept], TextValue="Nodule of Mr. Quixote")
    code = item(ValueType="CODE", ConceptNameCodeSequence=[concept], ConceptCodeSequence=[value])
    husk = cleaned(image(ContentSequence=[text, code]), policy()).ContentSequence
    assert husk[0].TextValue == "REMOVED"
    assert husk[0].ConceptNameCodeSequence[0].CodeValue == "121071"
    assert husk[1].ConceptCodeSequence[0].CodeMeaning == "REMOVED"
    with pytest.raises(Quarantined) as caught:
        cleaned(image(ContentSequence=[text, code]), policy(options=["clean-structured-content"]))
    assert caught.value.location == "ContentSequence[1].TextValue"
    text.TextValue = "Nodule"
    kept = cleaned(image(ContentSequence=[text, code]), policy(options=["clean-structured-content"])).ContentSequence
    assert (kept[0].TextValue, kept[1].ConceptCodeSequence[0].CodeMeaning) == ("Nodule", "Nodule")


def test_private_attributes_go_but_for_the_listed() -> None:
    """By group, element and creator, wherever their block lies (PS3.5 section 7.8.1), in sequences too."""
    dataset = image(SourceImageSequence=[Dataset()])
    for holder in (dataset, dataset.SourceImageSequence[0]):
        block = holder.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", "1000")
        block.add_new(0x0D, "LO", "other")
        holder.private_block(0x0019, "ACME", create=True).add_new(0x0C, "LO", "theirs")
    made = cleaned(dataset, policy(private=["(0019,xx0C) SIEMENS MR HEADER"]))
    for holder in (made, made.SourceImageSequence[0]):
        assert holder.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 1000
        assert len([tag for tag in holder.keys() if tag.is_private]) == 2  # noqa: SIM118  # elements would be decoded
    assert "113111" in [code.CodeValue for code in made.DeidentificationMethodCodeSequence]
    assert not [tag for tag in cleaned(dataset, policy()).keys() if tag.is_private]  # noqa: SIM118


def test_curves_overlays_and_unknown_attributes_go() -> None:
    """Repeating groups of any number, also with clean-graphics: a bitmap cannot be cleaned."""
    dataset = image()
    for group in (0x5002, 0x6000, 0x6002):
        dataset.add_new((group, 0x3000), "OW", b"\1\2")
    dataset.add_new((0x6002, 0x4000), "LT", "comment")
    dataset.add_new((0x0020, 0xFFF0), "LO", "of no dictionary")
    for options in ([], ["clean-graphics"]):
        made = cleaned(dataset, policy(options=options))
        assert not [tag for tag in made.keys() if tag.group in (0x5002, 0x6000, 0x6002) or tag.element == 0xFFF0]  # noqa: SIM118


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_encoding_and_the_pixel_bytes(syntax: str) -> None:
    """The transfer syntax stays, the pixels are the same bytes, the preamble is empty, and nothing behind the pixels leaves."""
    dataset = image()
    dataset.add_new(0x7FE10010, "LO", "ACME")
    dataset.add_new(0x7FE11010, "OB", b"MRN4711 Quixote ")
    dataset.add_new(0xFFFCFFFC, "OB", b"Quixote ")
    content = bytearray(file_of(dataset, syntax))
    content[:10] = b"MRN4711   "
    made_bytes = cleaned_file(bytes(content), policy())
    made = pydicom.dcmread(BytesIO(made_bytes))
    assert made.file_meta.TransferSyntaxUID == syntax
    assert made.PixelData == bytes((1, 2, 3, 4))
    assert made_bytes[:128] == bytes(128)
    assert max(made.keys()) == 0x7FE00010
    assert b"4711" not in made_bytes


def test_encapsulated_pixel_data_fragment_by_fragment() -> None:
    """As they came, the empty offset table too."""
    dataset = image()
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8frame1\xff\xd9", b"\xff\xd8frame22\xff\xd9\0"], has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    made = pydicom.dcmread(BytesIO(cleaned_file(file_of(dataset, JPEGBaseline8Bit), policy())))
    assert made.PixelData == dataset.PixelData


class _Zeros:
    """A file with `size` zeros at its end that nobody has to hold."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head, self._end, self._at = head, len(head) + size, 0

    def read(self, size: int = -1) -> bytes:
        stop = self._end if size < 0 else min(self._at + size, self._end)
        piece = self._head[self._at : stop] + bytes(stop - max(self._at, min(len(self._head), stop)))
        self._at = stop
        return piece

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset if whence == 0 else self._at + offset
        return self._at

    def close(self) -> None: ...


def test_memory_does_not_depend_on_the_size() -> None:
    """300 MB of pixels pass through less than 16 MB."""
    size = 300 << 20
    dataset = image()
    del dataset.PixelData
    head = file_of(dataset) + b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little")
    digest, written = hashlib.sha256(), 0

    def write(piece: bytes) -> None:
        nonlocal written
        written += len(piece)
        digest.update(piece[-8:])

    instance.deidentify(BytesIO(file_of(image())), lambda piece: None, policy())  # what is loaded once
    tracemalloc.start()
    instance.deidentify(_as_file(_Zeros(head, size)), write, policy())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < written < size + 4096
    assert peak < 16 << 20


def _as_file(zeros: Any) -> BinaryIO:
    made: BinaryIO = zeros
    return made


def test_a_header_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a sender decides how much memory a node needs."""
    monkeypatch.setattr(instance, "MOST_HEADER", 4096)
    with pytest.raises(Quarantined, match="too long"):
        cleaned(image(RedPaletteColorLookupTableData=bytes(8192)), policy())


@pytest.mark.parametrize(
    ("attributes", "location"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
        ({"RecognizableVisualFeatures": "YES"}, "RecognizableVisualFeatures"),
        ({"Modality": "US"}, "BurnedInAnnotation"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "BurnedInAnnotation"),
        ({"ConversionType": "WSD"}, "BurnedInAnnotation"),
        ({"EncapsulatedDocument": b"%PDF"}, "EncapsulatedDocument"),
    ],
)
def test_pictures_that_show_whom_they_are_of_are_held(attributes: dict[str, Any], location: str) -> None:
    """With the attribute that says so."""
    with pytest.raises(Quarantined) as caught:
        cleaned(image(**attributes), policy())
    assert caught.value.location == location


def test_ultrasound_that_says_it_has_no_text_passes_and_so_does_all_if_the_site_says_so() -> None:
    """BurnedInAnnotation NO, or unknown_annotation: pass. YES never passes."""
    assert cleaned(image(Modality="US", BurnedInAnnotation="NO"), policy()).Modality == "US"
    assert cleaned(image(Modality="US"), policy(unknown_annotation="pass")).Modality == "US"
    with pytest.raises(Quarantined):
        cleaned(image(Modality="US", BurnedInAnnotation="YES"), policy(unknown_annotation="pass"))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BodyPartExamined", "QUIXOTE"),
        ("Manufacturer", "ACME for Alonso"),
        ("ManufacturerModelName", "mrn4711"),
        ("SoftwareVersions", ["1.0", "31.01.1947"]),
        ("ConvolutionKernel", "ACC00017"),
    ],
)
def test_what_is_kept_and_names_the_patient_is_held(keyword: str, value: Any) -> None:
    """The attribute is named, the value is not."""
    with pytest.raises(Quarantined) as caught:
        cleaned(image(**{keyword: value}), policy())
    assert caught.value.location == keyword
    assert str(value) not in str(caught.value)


def test_what_names_the_patient_in_bytes_is_held() -> None:
    """Binary attributes are no text, and hold it all the same."""
    with pytest.raises(Quarantined) as caught:
        cleaned(image(RedPaletteColorLookupTableData=b"\1\2 Quixote \3\4"), policy())
    assert caught.value.location == "data set"


@pytest.mark.parametrize("name", sorted(file.name for file in (FILES / "charset_files").glob("*.dcm")))
def test_every_character_set(name: str) -> None:
    """No part of the name is left, in any of the writings; the character set stays."""
    content = (FILES / "charset_files" / name).read_bytes()
    before = pydicom.dcmread(BytesIO(content))
    made_bytes = cleaned_file(content, policy(unknown_annotation="pass"))
    made = pydicom.dcmread(BytesIO(made_bytes))
    assert made.get("SpecificCharacterSet") == before.get("SpecificCharacterSet")
    original = before.get("PatientName")
    for group in original.components if original else ():
        for part in group.replace("=", "^").split("^"):
            assert len(part) < 2 or all(part not in str(element.value) for element in made.iterall())


def test_kept_text_keeps_its_bytes() -> None:
    """What stays is not decoded and encoded again."""
    content = file_of(image(SpecificCharacterSet="GB18030", Manufacturer="东软"))
    assert "东软".encode("gb18030") in cleaned_file(content, policy())


@pytest.mark.parametrize("damage", ["prefix", "cut", "syntax", "instance"])
def test_damaged_files_are_held(damage: str) -> None:
    """With a reason that quotes nothing."""
    dataset = image()
    content = file_of(dataset)
    if damage == "prefix":
        content = content[132:]
    elif damage == "cut":
        content = content[:-2]
    elif damage == "syntax":
        content = content.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI")
    else:
        content = content.replace(b"\x02\x00\x03\x00UI", b"\x02\x00\x01\x01UI").replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x19\x00UI")
    with pytest.raises(Quarantined):
        cleaned_file(content, policy())


def test_the_same_file_gives_the_same_bytes() -> None:
    """So that an attempt that is repeated sends the same."""
    assert cleaned_file(file_of(image()), policy(dates="shift")) == cleaned_file(file_of(image()), policy(dates="shift"))


def test_the_table_is_whole() -> None:
    """Rows of the 2026 edition; every keyword is that of its tag, and every action is one."""
    found = rows()
    assert len(found) == 655
    assert {row.action for row in found.values()} == {"D", "Z", "X", "U"}
    lines = (Path(instance.__file__).parents[1] / "tables/attributes.csv").read_text().splitlines()
    named = [line.split(",")[:3] for line in lines if line.startswith('"') and line.split(",")[2] and "xx" not in line]
    assert all(
        pydicom.datadict.tag_for_keyword(keyword) == int(group.strip('"') + element.strip('"'), 16) for group, element, keyword in named
    )
