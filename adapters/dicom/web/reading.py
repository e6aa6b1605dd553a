"""Query and retrieve (PS3.18 clauses 10.4 and 10.6) over an archive. All functions that touch files run in a thread; the audit record is
written before anything is handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred

from adapters.dicom.archive.header import EXPLICIT, IMPLICIT
from adapters.dicom.archive.index import Held, Index
from adapters.dicom.web import files, rendering
from adapters.dicom.web.answers import Part, multipart
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import DICOM_FILE, DICOM_JSON, DICOM_XML, OCTETS, MediaType, acceptable, choose, covers
from adapters.dicom.web.native_model import native_model
from adapters.dicom.web.queries import MORE, read_query, result
from engine.errors import ParseError
from engine.http_answers import Answer, FilePiece
from engine.identity import is_allowed

if TYPE_CHECKING:
    from adapters.dicom.web.targets import Target
    from engine.contracts import Context
    from engine.http_answers import Sender
    from engine.options import Settings

_JSON_OR_XML: Final = {DICOM_JSON: "", "application/json": "", DICOM_XML: "multipart"}
_IMAGES: Final = {rendering.JPEG: "", rendering.PNG: ""}
_THUMBNAIL: Final = (256, 256)
_MOST_METADATA: Final = 256 << 20
"""Bytes of one metadata answer, which is made in memory."""
_COMPRESSED: Final = {
    "1.2.840.10008.1.2.4.50": "image/jpeg", "1.2.840.10008.1.2.4.51": "image/jpeg", "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg", "1.2.840.10008.1.2.4.80": "image/jls", "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2", "1.2.840.10008.1.2.4.91": "image/jp2", "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx", "1.2.840.10008.1.2.4.201": "image/jphc", "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc", "1.2.840.10008.1.2.5": "image/dicom-rle",
}  # fmt: skip
"""Media types of compressed frames (PS3.18 table 8.7.3-5)."""
_UNNAMED: Final = {DICOM_FILE: EXPLICIT, OCTETS: EXPLICIT}
"""What a media type means where no transfer syntax is named (PS3.18 8.7.3.5.2)."""


class Reads:
    """`boundary` gives one for a multipart answer, that nobody can guess; `in_thread` runs a function off the reactor thread."""

    def __init__(self, options: Settings, context: Context, in_thread: Callable[..., Deferred[Any]], boundary: Callable[[], str]) -> None:
        self._options, self._context, self._in_thread, self._boundary = options, context, in_thread, boundary
        self._index = Index(context.data / options.folder)

    def close(self) -> None:
        """Call when no read is under way."""
        self._index.close()

    def read(self, target: Target, headers: Mapping[str, str], sender: Sender, base: str) -> Deferred[Answer]:
        """Answer a GET or HEAD. Raises WebRefusal, StoreError; the Deferred fails with them too."""
        if self._options.readers and not is_allowed(sender.peer, self._options.readers):
            self._context.audit(
                "dicomweb.refused", channel=self._context.name, peer=sender.peer, remote=sender.remote, reason="not a reader"
            )
            raise WebRefusal(403, "this party may not read here")
        answers = {
            "query": self._query,
            "retrieve": self._retrieve,
            "metadata": self._metadata,
            "frames": self._frames,
            "bulkdata": self._bulk_data,
            "rendered": self._rendered,
            "thumbnail": self._rendered,
        }
        wanted = acceptable(headers, target.parameter("accept"))
        self._disclose(target, sender)
        return self._in_thread(_reading, answers[target.kind], target, wanted, base).addCallback(_unless_known, headers)

    def _disclose(self, target: Target, sender: Sender) -> None:
        """Names of search parameters are recorded, their values (identifiers) are not."""
        resource = "/".join(uid for uid in (target.study, target.series, target.instance) if uid)
        names = ",".join(sorted({name for name, _ in target.parameters})) if target.kind == "query" else ""
        self._context.disclose(
            "dicomweb.read",
            channel=self._context.name,
            peer=sender.peer,
            remote=sender.remote,
            interaction=target.kind,
            resource=resource or target.level,
            parameters=names[:500],
        )

    # --- search ------------------------------------------------------------------------------------

    def _query(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        media = choose(wanted, _JSON_OR_XML)
        query = read_query(target)
        limit = min(query.limit, self._options.most_results) if query.limit >= 0 else self._options.most_results
        found = list(islice(self._index.find(query.level, query.keys), query.offset, query.offset + limit + 1))
        warnings = list(query.warnings)
        if len(found) > limit and limit != query.limit:
            warnings.append(MORE)
        headers = {"Warning": ", ".join(f'299 {base} "{text}"' for text in warnings)} if warnings else {}
        results = [result(query, one, base) for one in found[:limit]]
        if not results:
            return Answer(204, headers=headers)
        if media == DICOM_XML:
            return self._xml(results, headers)
        return Answer(200, [orjson.dumps(results)], media, headers)

    def _xml(self, data_sets: Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> Answer:
        parts: list[Part] = [({"Content-Type": DICOM_XML}, [native_model(one)]) for one in data_sets]
        return multipart(parts, DICOM_XML, self._boundary(), headers)

    # --- retrieve ----------------------------------------------------------------------------------

    def _held(self, target: Target) -> list[Held]:
        held = self._index.instances(target.study, target.series, target.instance, most=self._options.most_instances + 1)
        if not held:
            raise WebRefusal(404, "there is no such study, series or instance")
        if len(held) > self._options.most_instances:
            raise WebRefusal(413, f"there are more than {self._options.most_instances} instances: ask for less at once")
        return held

    def _retrieve(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        held = self._held(target)
        fitting = [one for one in held if any(_fits(media, DICOM_FILE, one.transfer_syntax) for media in wanted)]
        if not fitting:
            found = ", ".join(sorted({one.transfer_syntax for one in held}))
            raise WebRefusal(406, f"here there is {DICOM_FILE} in transfer syntax {found}, and transfer-syntax=* takes what there is")
        for one in fitting:
            one.path.stat()  # said now, not in the middle of the answer
        parts: list[Part] = [(_file_type(one), [FilePiece(one.path, 0, one.size)]) for one in fitting]
        if len(held) == 1 and not _in_parts(wanted, DICOM_FILE):
            return Answer(200, parts[0][1], parts[0][0]["Content-Type"], _tag(held))
        if not any(media.multipart or media.name == "*/*" for media in wanted):
            raise WebRefusal(406, f'several instances come as multipart/related; type="{DICOM_FILE}"')
        answer = multipart(parts, DICOM_FILE, self._boundary(), _tag(held))
        return answer if len(fitting) == len(held) else replace(answer, status=206)

    def _metadata(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        media = choose(wanted, _JSON_OR_XML)
        held = self._held(target)
        made, size = [], 0
        for one in held:
            address = f"{base}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}"
            data_set = files.metadata(one.path, address)
            made.append(native_model(data_set) if media == DICOM_XML else orjson.dumps(data_set))
            size += len(made[-1])
            if size > _MOST_METADATA:
                raise WebRefusal(413, "the metadata is too large: ask for a series or an instance")
        if media == DICOM_XML:
            parts: list[Part] = [({"Content-Type": DICOM_XML}, [one]) for one in made]
            return multipart(parts, DICOM_XML, self._boundary(), _tag(held))
        return Answer(200, [b"[", *_between(made), b"]"], media, _tag(held))

    def _frames(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        (one,) = self._held(target)
        pixels = files.find_pixels(one.path)
        media, syntax = _frame_media(pixels, wanted)
        found = files.frames_of(pixels, target.frames)
        said = f"{media}; transfer-syntax={syntax}"
        if len(found) == 1 and not _in_parts(wanted, media):
            return Answer(200, found[0], said, _tag([one]))
        return multipart([({"Content-Type": said}, pieces) for pieces in found], media, self._boundary(), _tag([one]))

    def _bulk_data(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        if not any(covers(media.inner, OCTETS) for media in wanted):
            raise WebRefusal(406, f"bulk data is {OCTETS}")
        (one,) = self._held(target)
        piece = files.bulk_data(one.path, target.path)
        if not _in_parts(wanted, OCTETS):
            return Answer(200, [piece], OCTETS, _tag([one]))
        return multipart([({"Content-Type": OCTETS}, [piece])], OCTETS, self._boundary(), _tag([one]))

    # --- rendered ----------------------------------------------------------------------------------

    def _rendered(self, target: Target, wanted: Sequence[MediaType], base: str) -> Answer:
        media = choose(wanted, _IMAGES)
        look = rendering.read_look(dict(target.parameters), _THUMBNAIL if target.kind == "thumbnail" else None)
        held = self._held(target)
        if target.level != "instances" and target.kind == "rendered":
            raise WebRefusal(404, "rendered are instances and frames; a study or series has a thumbnail")
        if len(target.frames) > 1:
            raise WebRefusal(400, "one frame at a time can be rendered")
        one = held[len(held) // 2]  # of a series, the middle says more than the first
        image = rendering.render(files.find_pixels(one.path), target.frames[0] if target.frames else 1, look, media)
        return Answer(200, [image], media)


def _reading(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """In a thread. What went away meanwhile is not found."""
    try:
        return function(*arguments)
    except FileNotFoundError:
        raise WebRefusal(404, "the instance is not kept any more") from None
    except (ParseError, OSError) as error:
        raise WebRefusal(500, "the instance cannot be read") from error


def _fits(wanted: MediaType, offered: str, syntax: str) -> bool:
    """Whether a media range takes the type in that transfer syntax; a range that does not name the type takes any."""
    named = wanted.transfer_syntax or (_UNNAMED.get(offered, "*") if wanted.inner == offered else "*")
    return covers(wanted.inner, offered) and named in ("*", syntax)


def _in_parts(wanted: Sequence[MediaType], media: str) -> bool:
    """Whether the best range that takes the type wants it as a part; multipart is the default."""
    return next((one.multipart or one.name == "*/*" for one in wanted if covers(one.inner, media)), True)


def _file_type(held: Held) -> Mapping[str, str]:
    return {"Content-Type": f"{DICOM_FILE}; transfer-syntax={held.transfer_syntax}"}


def _frame_media(pixels: files.Pixels, wanted: Sequence[MediaType]) -> tuple[str, str]:
    """Media type and transfer syntax in which frames are handed out as they are. Raises WebRefusal 406."""
    syntax = EXPLICIT if pixels.transfer_syntax == IMPLICIT else pixels.transfer_syntax  # the same bytes
    own = _COMPRESSED.get(syntax, OCTETS) if pixels.encapsulated else OCTETS
    for one in wanted:
        for offered in dict.fromkeys((own, OCTETS)):
            if _fits(one, offered, syntax):
                return offered, syntax
    raise WebRefusal(406, f"here the frames are {own} in transfer syntax {syntax}, and transfer-syntax=* takes what there is")


def _tag(held: Sequence[Held]) -> dict[str, str]:
    """An ETag: the files are named by what is in them."""
    digest = hashlib.sha256("".join(f"{one.path.parent.name}{one.path.name}" for one in held).encode())
    return {"ETag": f'W/"{digest.hexdigest()[:32]}"'}


def _between(texts: Sequence[bytes]) -> list[bytes]:
    """With commas."""
    return [piece for text in texts for piece in (b",", text)][1:]


def _unless_known(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """304 where the client has it already (RFC 9110 13.1.2)."""
    tag, known = answer.headers.get("ETag", ""), headers.get("if-none-match", "")
    if tag and tag in [one.strip() for one in known.split(",")]:
        return Answer(304, headers=answer.headers)
    return answer
