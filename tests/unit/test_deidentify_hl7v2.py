"""HL7 v2: field by field, default deny, and what still names the patient is held."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from engine.deidentify import hl7v2
from engine.errors import Quarantined
from engine.formats.hl7v2 import decode
from tests.support.deidentify import policy

LINES = [
    "MSH|^~\\&|LAB|HOSP|PLAT|CITY|20240301120000||ORU^R01^ORU_R01|C1|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||MRN4711^5^M10^HIS&1.2.3&ISO^MR^HOSP~777^^^CARD||王^小东^^^^^L||19470131|M||2106-3|Long Lane 12^^Springfield||+86 138 0013 8000",
    "NK1|1|Doe^Jane|SPO",
    "|".join(["PV1", "1", "I", "W1^R2^B3", "", "", "", "1234^House^Greg", *[""] * 11, "V-0815^^^HIS", *[""] * 24, "20240229"]),
    "ORC|RE|P-001^HIS|F-001^LAB|||||||88^Nurse^Ann",
    "OBR|1|P-001^HIS|F-001^LAB|24323-8^Comp metabolic^LN|||20240301|||||||||777^Welby^M||ACC00017",
    "OBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L|3.9-6.1|N|||F|||20240301",
    "OBX|2|ST|X^Y||pale|||||||20240301",
    "OBX|3|CWE|X^Y||^said by her^L",
    "NTE|1||spoke with the family",
    "ZPI|1|MRN4711",
]


def body(*lines: str) -> bytes:
    return "\r".join([*(lines or LINES), ""]).encode()


def made(content: bytes | None = None, **options: object) -> dict[str, str | None]:
    message = decode(hl7v2.deidentify(content or body(), policy(**options)))
    assert [segment.name for segment in message.segments if segment.name in ("NK1", "ZPI")] == []

    class Paths(dict[str, str | None]):
        def __missing__(self, path: str) -> str | None:
            return message.get(path)

    return Paths()


def test_identifiers_are_pseudonyms_of_their_authority() -> None:
    """CX, EI and plain ones; type and authority stay, check digit and facility do not."""
    found, pseudonyms = made(), policy().pseudonyms
    patient = pseudonyms.identifier("urn:oid:1.2.3", "MRN4711")
    assert found["PID-3"] == f"{patient}^^^HIS&1.2.3&ISO^MR"
    assert found["PID-3[2].1"] == pseudonyms.identifier("urn:meridian:ns:CARD", "777")
    assert found["PID-5"] == patient
    assert found["ORC-2"] == found["OBR-2"] == f"{pseudonyms.identifier('urn:meridian:ns:HIS', 'P-001')}^HIS"
    assert found["OBR-18"] == pseudonyms.identifier("", "ACC00017")
    assert found["PV1-19.1"] == pseudonyms.identifier("urn:meridian:ns:HIS", "V-0815")


def test_what_is_not_in_the_table_or_names_somebody_goes() -> None:
    """Other segments wholly; names, addresses, telephones, places, free text, words without a code."""
    found = made()
    for path in ("PID-7", "PID-8", "PID-10", "PID-11", "PID-13", "PV1-3", "PV1-7", "PV1-44", "OBR-16", "ORC-10", "OBR-7", "MSH-4"):
        assert not found[path], path
    assert (found["OBX[2]-5"], found["OBX[3]-5.2"], found["NTE-3"]) == ("REMOVED", "REMOVED", "REMOVED")
    assert (found["OBX-3"], found["OBX-5"], found["OBX-7"]) == ("2345-7^Glucose^LN", "5.4", "3.9-6.1")
    assert (found["MSH-7"], found["MSH-10"], found["MSH-18"]) == ("19000101", "C1", "UNICODE UTF-8")


def test_dates_move_together_or_stay() -> None:
    """By the days of the patient."""
    found, shift = made(dates="shift"), policy().pseudonyms.shift("urn:oid:1.2.3", "MRN4711").days
    assert found["OBR-7"] == (date(2024, 3, 1) - timedelta(shift)).strftime("%Y%m%d")
    assert found["MSH-7"] == f"{found['OBR-7']}120000"
    assert not found["PID-7"]
    assert made(dates="keep")["OBR-7"] == "20240301"


def test_options() -> None:
    """Each keeps what it says."""
    found = made(options=["retain-institution", "retain-patient-characteristics", "clean-descriptors"])
    assert (found["MSH-4"], found["PV1-3"], found["PID-8"], found["PID-10"]) == ("HOSP", "W1^R2^B3", "M", "2106-3")
    assert (found["OBX[2]-5"], found["NTE-3"], found["OBX[3]-5.2"]) == ("pale", "spoke with the family", "said by her")


@pytest.mark.parametrize(
    ("line", "location"),
    [
        ("OBX|1|NM|2345-7^Glucose of 王小东^LN||5.4", "OBX-3"),
        ("OBX|1|CWE|X^Y||C1^born 1947-01-31^L", "OBX-5"),
        ("OBR|1|||X^MRN4711^L", "OBR-4"),
        ("DG1|1||C1^Springfield fever^L", "DG1-3"),
        ("AL1|1||C1^Jane^L", "AL1-3"),
    ],
)
def test_what_is_kept_and_names_the_patient_is_held(line: str, location: str) -> None:
    """The field is named, the value is not; a relative's name counts too."""
    with pytest.raises(Quarantined) as caught:
        hl7v2.deidentify(body(*LINES, line), policy())
    assert caught.value.location == location
    assert "王" not in str(caught.value)


def test_other_delimiters_and_character_sets_stay() -> None:
    """What is kept is written as it came."""
    lines = ["MSH#*~\\&#LAB#H###20240301##ORU*R01#C1#P#2.5######GB18030", "PID#1##4711***HIS", "OBX#1#CWE#X*血糖*L##C*高*L"]
    content = hl7v2.deidentify("\r".join([*lines, ""]).encode("gb18030"), policy())
    assert content.startswith(b"MSH#*~\\&#LAB")
    assert "X*血糖*L".encode("gb18030") in content
    assert b"4711" not in content


def test_the_delete_sign_stays() -> None:
    """HL7's null tells nothing but to delete."""
    assert made(body(*LINES[:1], 'PID|1||4711^^^HIS||""'))["PID-5"] == '""'
