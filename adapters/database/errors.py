"""What a database's error means: whether to try again, whether it may have happened, whether the whole database is out of reach.

Sorted by SQLSTATE (PostgreSQL: appendix A of its manual) or the vendor's number, never by prose. The databases' messages quote values,
so that only what names a class, a constraint, a table or a column is ever said; the whole text goes into DeliveryError.answer alone.
"""

from __future__ import annotations

import re
import sqlite3
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import exc as sa

from engine.errors import DeliveryError, PermanentDelivery, StoreError, TransientDelivery, UncertainDelivery


class Meaning(StrEnum):
    """What is to be done about an error."""

    DOWN = "the database is out of reach"  # nothing happened; the whole database: wait
    BUSY = "the database could not do it now"  # nothing happened; this statement: try again
    UNCERTAIN = "the connection broke in the commit"  # it may have happened
    CONTENT = "the database refuses the content"  # this record is at fault
    SETUP = "the database refuses the statement"  # rights, a table or a column missing: an operator is needed


class Sorted(NamedTuple):
    """`code` is the SQLSTATE or vendor's number, `said` names classes, constraints, tables and columns but no value."""

    meaning: Meaning
    code: str
    said: str
    whole: str

    @property
    def text(self) -> str:
        return f"{self.meaning.value}: {self.said} ({self.code})" if self.code else f"{self.meaning.value}: {self.said}"


class DatabaseError(StoreError):
    """For sources: a statement failed. `sorted` tells how."""

    code = "store.database"

    def __init__(self, found: Sorted) -> None:
        super().__init__(found.text)
        self.sorted = found


def sort(error: BaseException, *, committing: bool = False) -> Sorted:
    """`committing`: it came from the COMMIT itself, so that a lost connection leaves open what happened."""
    driver = getattr(error, "orig", None) or error
    code = _code(driver)
    meaning = _meaning(error, driver, code)
    if meaning is Meaning.DOWN and committing:
        meaning = Meaning.UNCERTAIN
    return Sorted(meaning, code, _said(driver, code), f"{type(driver).__name__}: {driver}")


def source_error(error: BaseException) -> DatabaseError:
    """A StoreError without values, for a source."""
    return DatabaseError(sort(error))


def delivery_error(error: BaseException, *, committing: bool = False) -> DeliveryError:
    """TransientDelivery, UncertainDelivery or PermanentDelivery, for a destination; the database's own words are its `answer`."""
    found = sort(error, committing=committing)
    answer = found.whole.encode()
    match found.meaning:
        case Meaning.DOWN:
            return TransientDelivery(found.text, answer=answer, whole_destination=True)
        case Meaning.BUSY:
            return TransientDelivery(found.text, answer=answer)
        case Meaning.UNCERTAIN:
            return UncertainDelivery(found.text, answer=answer, whole_destination=True)
        case _:
            return PermanentDelivery(found.text, answer=answer)


# --- codes ---------------------------------------------------------------------------------------

_MYSQL_DOWN: Final = {1040, 1041, 1053, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290, 1792, 1836, 1927, 2002, 2003, 2005,
                      2006, 2012, 2013, 2055, 3024}  # fmt: skip
_MYSQL_BUSY: Final = {1021, 1114, 1205, 1206, 1213, 1317, 1412, 1637, 1969, 3024, 3572}
_MYSQL_SETUP: Final = {1044, 1045, 1046, 1049, 1054, 1064, 1103, 1109, 1130, 1142, 1143, 1146, 1227, 1305, 1318, 1356, 1370, 1698}
_MSSQL_DOWN: Final = {233, 4060, 6005, 10053, 10054, 10060, 10061, 17142, 18456, 18486, 20002, 20003, 20004, 20006, 20009, 20047}
_MSSQL_BUSY: Final = {601, 701, 1105, 1204, 1205, 1222, 3960, 8645, 9002}
_MSSQL_SETUP: Final = {102, 156, 201, 207, 208, 229, 230, 262, 2812, 3701, 4104}
_ORACLE_DOWN: Final = {28, 1012, 1017, 1033, 1034, 1089, 1090, 1092, 3113, 3114, 3135, 12170, 12514, 12516, 12518, 12520, 12528, 12537,
                       12541, 12545, 12547, 12571, 28000, 28001}  # fmt: skip
_ORACLE_BUSY: Final = {54, 60, 1013, 1555, 1652, 1653, 4020, 8177, 30006}
_ORACLE_SETUP: Final = {900, 903, 904, 911, 933, 942, 1031, 6550}
_SQLITE_BUSY: Final = {5, 6, 9, 13}  # SQLITE_BUSY, LOCKED, INTERRUPT, FULL
_SQLITE_DOWN: Final = {8, 10, 11, 14, 26}  # READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB
_SQLITE_CONTENT: Final = {18, 19, 20}  # TOOBIG, CONSTRAINT, MISMATCH


_UNSENDABLE: Final = ("DataError", "NotSupportedError", "ProgrammingError")
"""What psycopg raises by itself, without an SQLSTATE, of a value that it cannot send (a NUL in a text)."""


def _code(driver: BaseException) -> str:
    state = getattr(driver, "sqlstate", None)
    if state and type(driver).__module__.startswith("psycopg"):  # MariaDB's numbers say more than its SQLSTATE
        return str(state)
    if isinstance(driver, sqlite3.Error):
        return str(getattr(driver, "sqlite_errorcode", "") or "")
    first: Any = driver.args[0] if driver.args else ""
    if isinstance(first, int):
        return str(first)
    return str(getattr(first, "full_code", "") or "")  # oracledb


def _meaning(error: BaseException, driver: BaseException, code: str) -> Meaning:
    module = type(driver).__module__.partition(".")[0]
    if isinstance(error, sa.TimeoutError) or isinstance(driver, OSError):
        return Meaning.DOWN
    if module == "psycopg":
        if not code and type(driver).__name__ in _UNSENDABLE:
            return Meaning.CONTENT
        return _postgresql(code)
    if isinstance(driver, sqlite3.Error):
        return _of(int(code or 1) & 0xFF, _SQLITE_DOWN, _SQLITE_BUSY, {1}) if code else Meaning.CONTENT
    number = int(re.sub(r"\D", "", code) or 0)
    found = Meaning.CONTENT
    if module == "pymysql":
        found = _of(number, _MYSQL_DOWN, _MYSQL_BUSY, _MYSQL_SETUP)
    elif module in ("pymssql", "_mssql"):
        found = _of(number, _MSSQL_DOWN, _MSSQL_BUSY, _MSSQL_SETUP)
    elif module == "oracledb":
        found = Meaning.DOWN if code.startswith("DPY-") else _of(number, _ORACLE_DOWN, _ORACLE_BUSY, _ORACLE_SETUP)
    if found is Meaning.CONTENT and getattr(error, "connection_invalidated", False):
        return Meaning.DOWN
    if found is Meaning.CONTENT and isinstance(error, sa.NoSuchTableError | sa.NoSuchModuleError | sa.ArgumentError):
        return Meaning.SETUP
    return found


def _of(number: int, down: set[int], busy: set[int], setup: set[int]) -> Meaning:
    if number in down:
        return Meaning.DOWN
    if number in busy:
        return Meaning.BUSY
    return Meaning.SETUP if number in setup else Meaning.CONTENT


def _postgresql(state: str) -> Meaning:
    if not state or state[:2] in ("08", "57", "58", "28", "3D", "XX", "F0") or state in ("25006", "53300"):
        return Meaning.BUSY if state == "57014" else Meaning.DOWN  # query_canceled: the statement's timeout
    if state[:2] in ("40", "53", "55"):
        return Meaning.BUSY
    return Meaning.SETUP if state[:2] in ("42", "3F", "26", "34", "0A") else Meaning.CONTENT


# --- words ---------------------------------------------------------------------------------------

_CLASSES: Final = {
    "22": "a value does not fit its column",
    "23": "a constraint is violated",
    "28": "the user or password is refused",
    "42": "a table, column or right is missing",
    "53": "it is out of resources",
    "55": "something is locked",
    "25": "it is read only",
    "57014": "the statement took too long",
    "57": "it is shutting down or was restarted",
    "40": "it was in conflict with another transaction",
    "08": "the connection broke",
    "3D": "there is no such database",
}
_NUMBERS: Final = {
    1044: "the user may not use that database",
    1045: "the user or password is refused",
    1048: "a value is missing",
    1049: "there is no such database",
    1054: "a column is missing",
    1062: "a constraint is violated",
    1130: "the server lets nobody in from this host",
    1142: "the user has no right to do it",
    1146: "a table is missing",
    1205: "something is locked",
    1213: "it was in conflict with another transaction",
    1290: "it is read only",
    1406: "a value does not fit its column",
    1451: "a constraint is violated",
    1452: "a constraint is violated",
    1969: "the statement took too long",
    2006: "the connection broke",
    2013: "the connection broke",
}
_CONNECTING: Final = (
    (r"password authentication failed|role \S+ does not exist", "the user or password is refused"),
    (r"no password supplied", "the user needs a password"),
    (r"no pg_hba.conf entry", "the server lets this user in from here by no rule (pg_hba.conf)"),
    (r"database \S+ does not exist", "there is no such database"),
    (r"resolve host|translate host name|Name or service not known|Temporary failure in name resolution", "there is no such host"),
    (r"Connection refused", "nobody listens at that address"),
    (r"certificate verify failed", "its certificate is not to be trusted"),
    (r"timeout expired|timed out", "it does not answer within connect_timeout"),
)
"""What a connection that was never made says without a code of its own; only for the words, never for the meaning."""
_KEY: Final = re.compile(r"(?:for key|FOREIGN KEY|CONSTRAINT) [`'(]*([\w.]+)[`')]*")


def _connecting(driver: BaseException) -> str:
    text = str(driver)
    return next((words for pattern, words in _CONNECTING if re.search(pattern, text)), "it does not answer")


def _said(driver: BaseException, code: str) -> str:
    name = type(driver).__name__
    parts = []
    if isinstance(driver, sqlite3.Error):
        text = str(driver)
        parts = [text if re.fullmatch(r"[\w .:,]{1,200}", text) else ""]  # SQLite's messages name columns, never values
    elif (diagnosis := getattr(driver, "diag", None)) is not None:
        words = _CLASSES.get(code) or _CLASSES.get(code[:2], "" if code else _connecting(driver))
        named = ((kind, getattr(diagnosis, f"{kind}_name", None)) for kind in ("constraint", "table", "column"))
        parts = [words, *(f"{kind} {value}" for kind, value in named if value)]
    elif code.isdigit() and type(driver).__module__.startswith("pymysql"):
        key = re.findall(_KEY, str(driver.args[-1]))
        words = _connecting(driver) if code == "2003" else _NUMBERS.get(int(code), "")
        parts = [words, f"constraint {key[-1]}" if key else ""]
    return ", ".join(part for part in parts if part) or name
