"""Invented people with valid identity numbers, and names that trip up whoever splits before decoding.

The area codes 9990xx are assigned to no place, so no number here can be anybody's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

TRAPS: Final = "倈俕倊乗"
"""Their GB18030 trail bytes are ``| ^ ~ \\``: separators to whoever cuts bytes instead of characters."""

_FAMILIES: Final = (*"赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨", "欧阳", "司徒")
_GIVEN_FEMALE: Final = ("秋月", "晓棠", "静姝", "若兰", "梓萱", "玉珍", "春梅", "雨桐")
_GIVEN_MALE: Final = ("建国", "志远", "浩然", "大川", "鹏程", "守诚", "子轩", "铁柱")
_STREETS: Final = ("青禾路", "望溪街", "石桥巷", "枫林大道", "南浦村", "云岭镇")
_AREAS: Final = ("999001", "999002", "999003", "999004")
_ETHNIC: Final = ("HA^汉族", "HA^汉族", "HA^汉族", "HA^汉族", "HU^回族", "ZH^壮族", "MA^满族")

_WEIGHTS: Final = tuple(pow(2, 18 - place, 11) for place in range(1, 18))
_CHECKS: Final = "10X98765432"


@dataclass(frozen=True, slots=True)
class Person:
    """`sex` as HL7 table 0001 (M, F); `identity` is an 18-place resident identity number (GB 11643)."""

    family: str
    given: str
    sex: str
    born: date
    identity: str
    address: str
    phone: str
    ethnic: str
    record_number: str


def check_character(seventeen: str) -> str:
    """The last character of a resident identity number: ISO 7064 MOD 11-2 over the seventeen digits before it."""
    return _CHECKS[sum(int(digit) * weight for digit, weight in zip(seventeen, _WEIGHTS, strict=True)) % 11]


def identity_number(area: str, born: date, sequence: int, sex: str) -> str:
    """`sequence` 0 to 499 within area and day; GB 11643 gives men the odd numbers and women the even ones."""
    seventeen = f"{area}{born:%Y%m%d}{sequence * 2 + (sex == 'M'):03d}"
    return seventeen + check_character(seventeen)


def person(chance: random.Random, number: int, day: date) -> Person:
    """The patient with this number (from 0) as of `day`; the first four carry a trap character each."""
    sex = chance.choice("MF")
    born = day - timedelta(days=chance.randint(200, 32_000))
    given = TRAPS[number] + chance.choice("明华") if number < len(TRAPS) else chance.choice(_GIVEN_MALE if sex == "M" else _GIVEN_FEMALE)
    area = chance.choice(_AREAS)
    home = f"{chance.choice(_STREETS)}{chance.randint(1, 399)}号^{chance.randint(1, 30)}栋{chance.randint(101, 1806)}室"
    return Person(
        family=chance.choice(_FAMILIES),
        given=given,
        sex=sex,
        born=born,
        identity=identity_number(area, born, number % 500, sex),
        address=f"{home}^虚构县^^000000^CN",
        phone=f"000{number:08d}",
        ethnic=chance.choice(_ETHNIC),
        record_number=f"M{100_000 + number}",
    )
