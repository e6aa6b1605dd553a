"""National identifiers of institutions: real ones are taken, what was mistyped is not."""

from __future__ import annotations

import pytest

from engine.parties import IDENTIFIERS
from engine.parties.identifiers import check_organisation

USCCS = ("91110000600037341L", "91350100M000100Y43", "91440300708461136T")
"""Of China Unicom, the example of GB 32100's annex, of Tencent."""
WS218 = "D2143569X" + "110108" + "11" + "A100" + "1"
"""The example of GB 11714 as a public, non-profit general hospital in Haidian."""


@pytest.mark.parametrize("code", USCCS)
def test_real_social_credit_codes(code: str) -> None:
    """They are taken, and so are their organisation codes, by their own check character."""
    IDENTIFIERS["uscc"](code)
    check_organisation(code[8:17])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("91110000600037342L", "wrong check character"),
        ("91110000600037341M", "wrong check character"),
        ("91110000600037341l", "capital letters"),
        ("9111000060003734", "has 16 characters"),
        ("91110000 600037341L", "has 19 characters"),
        ("9111000060003734-L", "8 digits and 10"),
        ("A1110000600037341L", "8 digits and 10"),
        ("9111000060003734IL", "8 digits and 10"),
        ("９１１１０００0600037341L", "plain digits and capital letters"),
        ("", "has 0 characters"),
    ],
)
def test_wrong_social_credit_codes(code: str, said: str) -> None:
    """Each says what is wrong."""
    with pytest.raises(ValueError, match=said):
        IDENTIFIERS["uscc"](code)


def test_an_institution_code() -> None:
    """WS 218-2002, with both ends of the organisation code's check character: X for 10, 0 for 11."""
    IDENTIFIERS["ws218"](WS218)
    IDENTIFIERS["ws218"]("000000000" + WS218[9:])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (WS218[:-1], "has 21 characters"),
        (WS218.lower(), "does not begin with an organisation code"),
        ("D21435690" + WS218[9:], "wrong check character in its organisation code"),
        ("D2143569A" + WS218[9:], "does not begin with"),
        (WS218[:9] + "910108" + WS218[15:], "does not go on with division"),
        (WS218[:17] + "1100" + "1", "does not go on with division"),
        (WS218[:-1] + "3", "does not go on with division"),
    ],
)
def test_wrong_institution_codes(code: str, said: str) -> None:
    """Length, organisation code, attributes."""
    with pytest.raises(ValueError, match=said):
        IDENTIFIERS["ws218"](code)
