"""Who may have an association: by called and calling AE title, address, and the party that a certificate proves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from adapters.dicom.options import ANY
from adapters.dicom.upper.exchange import Parties
from adapters.dicom.upper.pdu import CALLED_NOT_RECOGNIZED, CALLING_NOT_RECOGNIZED, AssociateReject
from engine.identity import party_name

_Network = IPv4Network | IPv6Network


class Policies:
    """From a source's options."""

    def __init__(self, called: Sequence[str], calling: Mapping[str, Sequence[str]] | None) -> None:
        self._called: Final = frozenset(called)
        self._calling = calling
        networks = [(network, titles) for name, titles in (calling or {}).items() if (network := _network(name)) is not None]
        self._networks = sorted(networks, key=lambda one: -one[0].prefixlen)

    def refusal(self, parties: Parties) -> AssociateReject | None:
        """The rejection of an association that may not be."""
        if self._called and parties.called not in self._called:
            return CALLED_NOT_RECOGNIZED
        if self._calling is None:
            return None
        titles = self._titles(parties)
        return None if parties.calling in titles or ANY in titles else CALLING_NOT_RECOGNIZED

    def _titles(self, parties: Parties) -> Sequence[str]:
        """What is said of the party; else of the smallest network with the address; else of all others."""
        calling: Mapping[str, Any] = self._calling or {}
        if parties.peer and (name := party_name(parties.peer)) in calling:
            return calling[name]  # type: ignore[no-any-return]
        try:
            address = ip_address(parties.remote.rpartition(":")[0])
        except ValueError:
            return calling.get(ANY, ())  # type: ignore[no-any-return]
        found = next((titles for network, titles in self._networks if address in network), None)
        return calling.get(ANY, ()) if found is None else found


def _network(name: str) -> _Network | None:
    try:
        return ip_network(name)
    except ValueError:
        return None
