"""Changing an instance's transfer syntax, in a process of its own: pydicom reads it whole, and large ones would hold up the node.

Only where the channel says so, and only to an uncompressed syntax. Lossy compression stays on record: what (0028,2110) says is not
changed. A file that is longer than MOST is refused rather than read into memory. A body that
is a file comes back as one, below the site's data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed

from adapters.dicom.forward.instance import Instance
from adapters.dicom.forward.part10 import HEAD, read_meta
from engine.child import Child
from engine.errors import PermanentDelivery, TransientDelivery

if TYPE_CHECKING:
    from engine.contracts import Context

SYNTAXES: Final = {"implicit-le": "1.2.840.10008.1.2", "explicit-le": "1.2.840.10008.1.2.1"}
MOST: Final = 512 << 20


class Transcoder:
    """One process, begun with the first instance that needs it; instances wait for each other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._process: _Process | None = None
        self._last: Deferred[Any] = succeed(None)

    def change(self, instance: Instance, syntax: str) -> Deferred[Instance]:
        """Fires with the instance in another transfer syntax. Fails with PermanentDelivery where that cannot be."""
        if instance.size > MOST:
            return fail(PermanentDelivery(f"it is too big to be changed to transfer syntax {syntax}"))
        done: Deferred[Instance] = Deferred()
        self._last.addBoth(lambda _: self._ask(instance, syntax)).addCallbacks(done.callback, done.errback)
        return done

    def _ask(self, instance: Instance, syntax: str) -> Deferred[Instance]:
        process = self._process
        if process is None or process.ended.called:
            process = self._process = _Process()
            process.spawn(self._context.reactor, "adapters.dicom.forward.transcoding_process")
        if not instance.digest:
            return process.ask((instance.content, "", "", syntax))
        folder = self._context.data / "transcoding"
        return process.ask((str(instance.path), instance.digest, str(folder), syntax))

    def close(self) -> Deferred[Any]:
        if self._process is None or self._process.ended.called:
            return succeed(None)
        self._process.end()
        return self._process.ended


class _Process(Child):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._answer: Deferred[Instance] | None = None

    def ask(self, question: tuple[bytes | str, str, str, str]) -> Deferred[Instance]:
        answer = self._answer = Deferred()
        self.send(question)
        return answer

    def heard(self, value: Any) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if isinstance(value, bytes):
            answer.callback(Instance(read_meta(value[:HEAD]), len(value), value))
        elif isinstance(value, tuple):
            head, size, path, digest = value
            answer.callback(Instance(read_meta(head), size, b"", Path(path), digest, is_temporary=True))
        else:
            answer.errback(PermanentDelivery(str(value)))

    def gone(self) -> None:
        self.ended.callback(None)
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.errback(TransientDelivery("the process that changes transfer syntaxes has ended"))
