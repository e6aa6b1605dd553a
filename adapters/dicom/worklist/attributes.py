"""The attributes of the modality worklist (PS3.4 table K.6-1) that are answered here: tag and VR by keyword, and each one's place."""

from __future__ import annotations

from typing import Final

CHARSET: Final = 0x00080005
STEPS: Final = 0x00400100
"""Scheduled Procedure Step Sequence"""
STATION: Final = 0x00400001
DATE: Final = 0x00400002
TIME: Final = 0x00400003

_CODED: Final = {0x00080100: "SH", 0x00080102: "SH", 0x00080103: "SH", 0x00080104: "LO"}
_REFERENCE: Final = {0x00081150: "UI", 0x00081155: "UI"}
_STEP: Final = {
    0x00400001: "AE",  # Scheduled Station AE Title, R 1
    0x00400002: "DA",  # Scheduled Procedure Step Start Date, R 1
    0x00400003: "TM",  # Scheduled Procedure Step Start Time, R 1
    0x00080060: "CS",  # Modality, R 1
    0x00400006: "PN",  # Scheduled Performing Physician's Name, R 2
    0x00400007: "LO",  # Scheduled Procedure Step Description, 1C
    0x00400008: "SQ",  # Scheduled Protocol Code Sequence, 1C
    0x00400009: "SH",  # Scheduled Procedure Step ID, 1
    0x00400010: "SH",  # Scheduled Station Name, 2
    0x00400011: "SH",  # Scheduled Procedure Step Location, 2
    0x00400012: "LO",  # Pre-Medication, 2C
    0x00321070: "LO",  # Requested Contrast Agent, 2C
    0x00400020: "CS",  # Scheduled Procedure Step Status, 3
    0x00400400: "LT",  # Comments on the Scheduled Procedure Step, 3
}
_TOP: Final = {
    0x00080005: "CS",  # Specific Character Set, 1C
    0x00400100: "SQ",  # Scheduled Procedure Step Sequence, R 1
    0x00401001: "SH",  # Requested Procedure ID, 1
    0x00321060: "LO",  # Requested Procedure Description, 1C
    0x00321064: "SQ",  # Requested Procedure Code Sequence, 1C
    0x0020000D: "UI",  # Study Instance UID, 1
    0x00081110: "SQ",  # Referenced Study Sequence, 2
    0x00401003: "SH",  # Requested Procedure Priority, 2
    0x00401004: "LO",  # Patient Transport Arrangements, 2
    0x00401002: "LO",  # Reason for the Requested Procedure, 3
    0x00401400: "LT",  # Requested Procedure Comments, 3
    0x00080050: "SH",  # Accession Number, 2
    0x00321032: "PN",  # Requesting Physician, 2
    0x00080090: "PN",  # Referring Physician's Name, 2
    0x00321033: "LO",  # Requesting Service, 3
    0x00402016: "LO",  # Placer Order Number / Imaging Service Request, 3
    0x00402017: "LO",  # Filler Order Number / Imaging Service Request, 3
    0x00380010: "LO",  # Admission ID, 2
    0x00380300: "LO",  # Current Patient Location, 2
    0x00081120: "SQ",  # Referenced Patient Sequence, 2
    0x00100010: "PN",  # Patient's Name, R 1
    0x00100020: "LO",  # Patient ID, R 1
    0x00100021: "LO",  # Issuer of Patient ID, 3
    0x00100030: "DA",  # Patient's Birth Date, 2
    0x00100040: "CS",  # Patient's Sex, 2
    0x00101020: "DS",  # Patient's Size, 3
    0x00101030: "DS",  # Patient's Weight, 2
    0x00403001: "LO",  # Confidentiality Constraint on Patient Data Description, 2
    0x00380500: "LO",  # Patient State, 2
    0x001021C0: "US",  # Pregnancy Status, 2
    0x00102000: "LO",  # Medical Alerts, 2
    0x00102110: "LO",  # Allergies, 2
    0x00380050: "LO",  # Special Needs, 2
}
_BELOW: Final = {
    0x00400100: _STEP,
    0x00400008: _CODED,
    0x00321064: _CODED,
    0x00081110: _REFERENCE,
    0x00081120: _REFERENCE,
}


def below(sequence: int = 0) -> dict[int, str]:
    """The attributes, tag -> VR, in the items of a sequence; of the whole answer without one."""
    return _BELOW[sequence] if sequence else _TOP
