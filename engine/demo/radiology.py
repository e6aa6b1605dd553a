"""The radiology department's morning: who is to be examined, the orders, and the images that its modalities make.

A foreign hand, as everything of the demo: it shares no line with adapters.dicom. pydicom writes the images.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from engine.demo import writing as hl7
from engine.demo.morning import ACCEPTED, DAY, OPENING, Item
from engine.demo.people import Person, person
from engine.demo.writing import FACILITY, System, Visit

if TYPE_CHECKING:
    from pydicom import Dataset

RIS: Final = System("RIS", "UNICODE UTF-8", "utf-8", tls=False)
_DOCTOR: Final = "D0207^罗^医生"
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_US_MULTIFRAME: Final = "1.2.840.10008.5.1.4.1.1.3.1"
_EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
_ROOT: Final = "1.2.826.0.1.3680043.8.498.2026"


@dataclass(frozen=True, slots=True)
class Modality:
    """A device: `modality` as in (0008,0060), its character set, and the SOP class and number of the images that it makes of a patient."""

    ae_title: str
    modality: str
    charset: str
    sop_class: str
    images: int
    maker: str


@dataclass(frozen=True, slots=True)
class Examination:
    """One order, and on which device it is carried out. Numbers as in the order; times in seconds from the opening."""

    number: int
    patient: Person
    device: Modality
    code: str
    text: str
    ordered: float
    performed: float

    @property
    def accession(self) -> str:
        return f"A{DAY:%y%m%d}{self.number:04d}"


CT1: Final = Modality("CT1", "CT", "GB18030", _CT, 16, "Nanpu Imaging")
US1: Final = Modality("US1", "US", "ISO_IR 192", _US_MULTIFRAME, 2, "Qinghe Ultrasound")
DEVICES: Final = (CT1, US1)


def examinations(seed: int) -> list[Examination]:
    """A CT of somebody whose name has bytes like separators in GB18030, and an ultrasound."""
    chance = random.Random(seed)  # noqa: S311  # a story, not a secret
    first, second = (person(chance, number, DAY) for number in (7001, 7002))
    return [
        Examination(1, replace(first, given="乗明"), CT1, "CTCHEST", "胸部CT平扫", 900, 1800),
        Examination(2, second, US1, "USABD", "腹部超声", 1200, 2400),
    ]


def orders(found: list[Examination]) -> list[Item]:
    """What the radiology information system schedules, as ORM^O01."""
    return [
        Item(one.ordered, _order(one), "ORM^O01", f"ordered: {one.device.modality}", ACCEPTED, RIS.name, f"RIS{one.number:06d}")
        for one in found
    ]


def _order(one: Examination) -> bytes:
    at = datetime.combine(DAY, OPENING) + timedelta(seconds=one.ordered)
    placer, filler = f"X{DAY:%y%m%d}{one.number:04d}", f"F{one.accession}"
    visit = Visit(f"VR{one.number:05d}", "O", "RAD^01", _DOCTOR, at)
    begins = hl7.stamp(datetime.combine(DAY, OPENING) + timedelta(seconds=one.performed))
    ordered = {1: "NW", 2: f"{placer}^HIS", 3: f"{filler}^RIS", 5: "SC", 9: hl7.stamp(at), 12: _DOCTOR}
    request = {
        1: "1",
        2: f"{placer}^HIS",
        3: f"{filler}^RIS",
        4: f"{one.code}^{one.text}^L",
        16: _DOCTOR,
        18: one.accession,
        19: f"R{one.number:04d}",
        20: f"S{one.number:04d}",
        21: one.device.ae_title,
        24: one.device.modality,
        36: begins,
    }
    segments = (hl7.pid(one.patient), hl7.pv1(visit), hl7.segment("ORC", ordered), hl7.segment("OBR", request))
    return hl7.message(RIS, "ORM^O01^ORM_O01", f"RIS{one.number:06d}", at, segments)


def images(one: Examination, entry: Dataset) -> Iterator[Dataset]:
    """What the device makes of a worklist entry; patient and study are as the entry says."""
    chance = random.Random(one.number)  # noqa: S311
    for number in range(1, one.device.images + 1):
        image = _beginning(one, entry, number)
        if one.device is CT1:
            _slice(image, number, chance)
        else:
            _loop(image, chance)
        yield image


def uid(one: Examination, *parts: int) -> str:
    return ".".join([_ROOT, str(one.number), *map(str, parts)])


def _beginning(one: Examination, entry: Dataset, number: int) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    image, at = Dataset(), datetime.combine(DAY, OPENING) + timedelta(seconds=one.performed)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    image.SpecificCharacterSet = one.device.charset
    image.SOPClassUID, image.SOPInstanceUID = one.device.sop_class, uid(one, 1, number)
    image.StudyInstanceUID, image.SeriesInstanceUID = entry.StudyInstanceUID, uid(one, 1)
    for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"):
        setattr(image, keyword, entry.get(keyword, ""))
    image.StudyDate = image.SeriesDate = image.ContentDate = f"{at:%Y%m%d}"
    image.StudyTime = image.SeriesTime = image.ContentTime = f"{at:%H%M%S}"
    image.StudyID, image.SeriesNumber, image.InstanceNumber = str(one.number), "1", str(number)
    image.Modality, image.Manufacturer, image.StudyDescription = one.device.modality, one.device.maker, one.text
    image.InstitutionName, image.StationName, image.ReferringPhysicianName = FACILITY, one.device.ae_title, "罗^医生"
    return image


def _pixels(image: Dataset, rows: int, columns: int, samples: int, bits: int, data: bytes) -> None:
    image.Rows, image.Columns, image.SamplesPerPixel = rows, columns, samples
    image.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    image.BitsAllocated = image.BitsStored = bits
    image.HighBit, image.PixelRepresentation = bits - 1, 0
    if samples > 1:
        image.PlanarConfiguration = 0
    image.add_new(0x7FE00010, "OW" if bits > 8 else "OB", data)


def _slice(image: Dataset, number: int, chance: random.Random) -> None:
    image.ImageType, image.SliceThickness, image.KVP = ["ORIGINAL", "PRIMARY", "AXIAL"], "5", "120"
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, number * 5], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.FrameOfReferenceUID, image.BodyPartExamined = [0.7, 0.7], image.StudyInstanceUID + ".1", "CHEST"
    image.RescaleIntercept, image.RescaleSlope = "-1024", "1"
    _pixels(image, 512, 512, 1, 16, chance.randbytes(1024) * 512)


def _loop(image: Dataset, chance: random.Random) -> None:
    image.ImageType, image.NumberOfFrames, image.FrameTime = ["ORIGINAL", "PRIMARY"], "4", "40"
    image.FrameIncrementPointer, image.BodyPartExamined = 0x00181063, "ABDOMEN"
    _pixels(image, 240, 320, 3, 8, chance.randbytes(960) * 240 * 4)
