"""The node's own HTTP listener: /metrics for Prometheus, /livez and /readyz for whoever supervises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet.defer import Deferred, succeed
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

if TYPE_CHECKING:
    from twisted.web.server import Request

    from engine.observe import Metrics


Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class _Page(Resource):
    """One GET page: `render` fires with an Answer."""

    isLeaf = True  # noqa: N815

    def __init__(self, render: Callable[[], Deferred[Answer]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._render = render

    def render_GET(self, request: Request) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def write(answer: Answer) -> None:
            if not gone:
                status, content_type, body = answer
                request.setResponseCode(status)
                request.setHeader("content-type", content_type)
                request.write(body)
                request.finish()

        self._render().addErrback(lambda _: (500, "text/plain", b"cannot tell\n")).addCallback(write)
        return NOT_DONE_YET


def status_site(metrics: Metrics, refresh: Callable[[], Deferred[None]], not_ready: Callable[[], str]) -> Site:
    """`refresh` brings gauges up to date before a scrape; `not_ready` gives the reason, "" when the node is ready."""

    def scrape() -> Deferred[Answer]:
        return refresh().addCallback(lambda _: (200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry)))

    def ready() -> Deferred[Answer]:
        reason = not_ready()
        return succeed((503, "text/plain", reason.encode() + b"\n") if reason else (200, "text/plain", b"ready\n"))

    root: Any = Resource()
    root.putChild(b"metrics", _Page(scrape))
    root.putChild(b"livez", _Page(lambda: succeed((200, "text/plain", b"alive\n"))))
    root.putChild(b"readyz", _Page(ready))
    site: Any = Site(root)
    site.displayTracebacks = False
    return site  # type: ignore[no-any-return]
