"""How sources listen: TCP or TLS, by the options `listen` and `tls` that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import CannotListenError

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

BACKLOG: Final = 511
"""Connections that the system may hold before they are accepted: what a crowd of senders needs after a restart."""


def listen(factory: Any, options: Settings, context: Context) -> Any:
    """A listening port (twisted.internet.interfaces.IListeningPort). Raises ConfigError: the port is taken, or TLS cannot begin."""
    host, port = options.listen
    reactor: Any = context.reactor
    try:
        if options.tls is None:
            return reactor.listenTCP(port, factory, interface=host, backlog=BACKLOG)
        return reactor.listenSSL(port, factory, context.tls.server(options.tls, context.name), interface=host, backlog=BACKLOG)
    except CannotListenError as error:
        raise ConfigError(f"channel {context.name}: cannot listen on {host or '*'}:{port}: {error.socketError}") from None
