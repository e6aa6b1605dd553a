"""A request that is not carried out, with the HTTP status that says so (PS3.18 clause 8.5)."""

from __future__ import annotations

from engine.http_answers import HttpRefusal


class WebRefusal(HttpRefusal):
    """The client hears the text as a plain sentence."""

    code = "message.dicomweb"
