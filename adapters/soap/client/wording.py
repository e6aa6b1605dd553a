"""What the destination would say for a message, without a network: for a channel's tests. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from adapters.soap.client.content import Content
from adapters.soap.client.options import address_of, operations_of, port_of
from adapters.soap.client.request import Requests

if TYPE_CHECKING:
    from engine.message import BodyRef, Parcel
    from engine.options import Settings

_READER: Final = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
"""Of what is our own."""


def word(options: Settings, parcel: Parcel) -> str:
    """The envelope, indented, with attachments in it as base64 and without a signature. Raises PermanentDelivery."""
    port = port_of(options)
    requests = Requests(
        options.wsdl.describe(),
        operations_of(options, port),
        port.version,
        body=options.body,
        headers=options.headers,
        addressed_to=address_of(options, port) if options.addressing else "",
    )
    outgoing, _ = requests.build(Content(parcel, "test", _no_file, options.tables, options.documents))
    root: Any = etree.fromstring(b"".join(outgoing.package.pieces()), _READER)
    etree.indent(root)
    return str(etree.tostring(root, encoding="unicode"))


def _no_file(body: BodyRef) -> Path:
    raise AssertionError("a test's message is in memory")
