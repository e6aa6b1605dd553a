"""What a channel file may say under ``file``."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from adapters.file.naming import TEMPLATE
from adapters.file.placing import PLACES, SERVED, wrong_place
from engine.errors import ParseError
from engine.formats.files.xml_pieces import steps
from engine.formats.hl7v2.charsets import named
from engine.options import DURATION, FLAG, SIZE, TEXT, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice, integer

_NAMED: Final = ("patient", "type", "date", "title", "encounter", "id")


def _encoding(raw: Any) -> str:
    """One in which a line end and a quote are bytes of their own."""
    try:
        found = codecs.lookup(str(raw)).name
        if '\n\r"9'.encode(found) != b'\n\r"9':
            raise Faulty(f"files in {raw!r} are not taken: have them written in UTF-8 or GB18030")
    except (LookupError, UnicodeError):
        raise Faulty(f"there is no encoding {raw!r}") from None
    return found


def _charset(raw: Any) -> str:
    try:
        return named(str(raw))
    except ParseError as error:
        raise Faulty(error.text) from None


def _pattern(raw: Any) -> re.Pattern[str]:
    try:
        found = re.compile(str(raw))
    except re.error as error:
        raise Faulty(f"not a regular expression: {error}") from None
    if unknown := set(found.groupindex) - set(_NAMED):
        raise Faulty(f"the group {min(unknown)!r} means nothing here", ", ".join(_NAMED))
    if not found.groupindex:
        raise Faulty("names no group, such as (?P<patient>[A-Z0-9]+)")
    return found


def _path(raw: Any) -> tuple[str, ...]:
    try:
        return steps(str(raw))
    except ValueError as error:
        raise Faulty(str(error)) from None


def _one(raw: Any) -> str:
    text = str(raw)
    if len(text) != 1 or text in '\n\r"':
        raise Faulty(f"{raw!r} is not one character")
    return text


def _below(raw: Any) -> str:
    """A folder below the place, and not one that hides itself."""
    text = str(raw).strip("/")
    if (
        not text
        or any(part in ("", ".", "..") or part.startswith(".") for part in text.split("/"))
        or "\\" in text
        or str(raw).startswith("/")
    ):
        raise Faulty(f"{raw!r} is not a folder below the one that is watched")
    return text


ENCODING: Final = Kind("encoding", "utf-8, gb18030, big5, windows-1252 …", _encoding, {"type": "string"})
CHARSET: Final = Kind(
    "charset", "a name from HL7 table 0211 (UNICODE UTF-8, GB 18030-2000, 8859/1, ISO IR87 …)", _charset, {"type": "string"}
)
PATTERN: Final = Kind("pattern", f"a regular expression with named groups: {', '.join(_NAMED)}", _pattern, {"type": "string"})
PATH: Final = Kind("path", "names of elements such as export/ClinicalDocument", _path, {"type": "string"})
CHARACTER: Final = Kind("character", "one character", _one, {"type": "string"})
BELOW: Final = Kind("folder", "a folder below the one that is watched", _below, {"type": "string"})

FORMATS: Final = ("hl7-batch", "ndjson", "csv", "fixed-width", "xml", "cda", "json", "pdf", "whole")
TABULAR: Final = ("csv", "fixed-width")

_CSV: Final = Spec(
    "csv",
    "How a tabular file is written (RFC 4180).",
    [
        Option("encoding", ENCODING, "its character set; a byte order mark of UTF-8 is left out", default="utf-8"),
        Option("delimiter", CHARACTER, "default: what the first line has most of, of comma, semicolon, tab, bar"),
        Option("quote", CHARACTER, "around a cell that has a delimiter or a line end; '\"' if it is not said"),
        Option("columns", ListOf(TEXT), "names of the columns of a file that has no heading", default=[]),
        Option("skip", integer(0, 1000), "lines before the heading, or before the rows", default=0),
    ],
    check=lambda settings: "delimiter and quote are the same" if settings.delimiter == (settings.quote or '"') else "",
)
_COLUMN: Final = Spec(
    "column",
    "One column of a file of fixed width.",
    [
        Option("name", TEXT, "its name", required=True),
        Option("at", integer(1, 100_000), "where it begins, from 1", required=True),
        Option("width", integer(1, 100_000), "how wide it is", required=True),
    ],
)
_FIXED: Final = Spec(
    "fixed_width",
    "How a file with columns at fixed places is written.",
    [
        Option("columns", ListOf(_COLUMN), "its columns", required=True),
        Option("count", choice("characters", "bytes"), "what places and widths are counted in; GBK systems mostly mean bytes",
               default="characters"),
        Option("encoding", ENCODING, "its character set", default="utf-8"),
        Option("skip", integer(0, 1000), "lines before the rows", default=0),
        Option("short_rows", FLAG, "a row may end where only blanks would follow", default=False),
    ],
)  # fmt: skip
_ROWS: Final = Spec(
    "rows",
    "How rows of csv and fixed-width files become messages (application/rows+json), as those of a database do.",
    [
        Option("table", TEXT, "what they are rows of, for rows-to-fhir and as the message type", default="file"),
        Option("origin", TEXT, "whose they are", default="file"),
        Option("key", ListOf(TEXT), "columns that tell one from another; empty ones are a fault", default=[]),
        Option("patient_ids", ListOf(TEXT), "columns with the patient's identifiers", default=[]),
        Option("details", MapOf(ListOf(TEXT)), "name: columns; consecutive rows with one key become one message, these columns its detail "
               "rows", default={}),
    ],
    check=lambda settings: "details needs key" if settings.details and not settings.key else "",
)  # fmt: skip
_ARCHIVES: Final = Spec(
    "archives",
    "zip, tar, tar.gz and gz: their files are taken as if they lay there. Archives in archives and encrypted members are refused.",
    [
        Option("names", ListOf(TEXT), "patterns of the names of archives", default=["*.zip", "*.tar", "*.tar.gz", "*.tgz", "*.gz"]),
        Option("members", integer(1, 60_000), "most files in one", default=10_000),
        Option("ratio", integer(1, 100_000), "most times that its content is bigger than it", default=200),
        Option("total", SIZE, "most content of one", default="4GB"),
    ],
)


def _fitting(settings: Settings) -> str:
    if wrong := wrong_place(settings):
        return wrong
    if settings.format == "fixed-width" and settings.fixed_width is None:
        return "format fixed-width needs fixed_width with its columns"
    if settings.done == settings.faulty:
        return "done and faulty are the same folder"
    return ""


SOURCE: Final = Spec(
    "file source",
    "Takes in the files of a folder: each piece of one is a message of its own, committed before the file is moved to `done`. A bad piece "
    "is kept as an invalid message that says file and line, and does not stop the rest; such a file goes to `faulty`, with a report.",
    [
        *PLACES,
        SERVED,
        Option("format", choice(*FORMATS), "what the files are", required=True),
        Option("include", ListOf(TEXT), "patterns of the names that are taken (* ? [abc])", default=["*"]),
        Option("ignore", ListOf(TEXT), "patterns of names that are left alone, in either case of letters, as are all with a dot first",
               default=["*.tmp", "*.part", "*.filepart", "*.crdownload", "*~"]),
        Option("settled_for", DURATION, "a file is taken when its size and time have not changed for so long", default="10s"),
        Option("marker", TEXT, "or at once when a file NAME + this stands beside it, such as .done; without that it is left"),
        Option("poll", DURATION, "how often it looks", default="5s"),
        Option("order", choice("name", "time"), "in which files that wait are taken", default="name"),
        Option("most_files", integer(1, 10_000), "files taken after one look", default=100),
        Option("most_size", SIZE, "a bigger file is not read, but moved to faulty", default="16GB"),
        Option("most_message", SIZE, "a bigger piece is a fault", default="16MB"),
        Option("most_faults", integer(1, 1_000_000), "after so many bad pieces the rest of a file is not read, and that is said",
               default=1000),
        Option("done", BELOW, "where files go when all of their pieces are kept", default="done"),
        Option("faulty", BELOW, "where files go that have a bad piece, each with its report NAME.errors.csv", default="faulty"),
        Option("by_date", FLAG, "a folder for each day in done and faulty", default=False),
        Option("same_content", choice("once", "again"), "whether a file with the content of an earlier one is a repetition, or new "
               "when its name or its time is another", default="once"),
        Option("take_over", DURATION, "what another node has claimed that has not been seen for so long is taken over", default="15m"),
        Option("content_type", TEXT, "media type of ndjson, json, xml and whole; default: FHIR for the first two"),
        Option("name_pattern", PATTERN, "what is read out of a file's name (the whole of it); a file whose name does not fit is faulty"),
        Option("label", FLAG, "it goes on with what is known of it (application/vnd.meridian.file), for files-to-fhir; default: pdf only"),
        Option("charset", CHARSET, "hl7-batch: what rules over MSH-18"),
        Option("path", PATH, "xml: the elements that are one message each; default: the file is one"),
        Option("csv", _CSV, "how a csv file is written", default={}),
        Option("fixed_width", _FIXED, "how a fixed-width file is written"),
        Option("rows", _ROWS, "what becomes of rows", default={}),
        Option("archives", _ARCHIVES, "which files are archives", default={}),
    ],
    check=_fitting,
)  # fmt: skip

DESTINATION: Final = Spec(
    "file destination",
    "Writes each message as a file, which appears under its name only when all of it is on disk. Nothing is overwritten.",
    [
        *PLACES,
        Option("name", TEMPLATE, "its name, with ${…} for what the message says; what a name cannot have becomes _",
               default="${message.control_id}-${message.key}"),
        Option("into", BELOW, "a folder below, made where it is missing"),
        Option("existing", choice("refuse", "number"), "a name that is there with other content: a dead letter, or a number before its "
               "ending. With the same content the message is written already", default="refuse"),
        Option("marker", TEXT, "an empty file NAME + this is written after it, such as .done"),
    ],
    check=wrong_place,
)  # fmt: skip
