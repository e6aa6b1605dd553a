"""A channel's check of who sends, and the node's view of the registry that it is checked against."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.channel import PartyCheck
from engine.errors import StoreError
from engine.message import HL7V2, Envelope, Judgement, Verdict
from engine.observe import Metrics
from engine.parties.registry import Registry
from engine.parties.snapshot import Finding, Rule, Snapshot

_LONGEST: Final = 200
_JUDGEMENTS: Final = {
    Rule.UNREGISTERED: Judgement(Verdict.REFUSED, "who sends this is not a registered party", "207", "MSH-3"),
    Rule.DISABLED: Judgement(Verdict.REFUSED, "the party that sends this has been disabled", "207", "MSH-3"),
    Rule.MISMATCH: Judgement(Verdict.REFUSED, "the sender that is claimed is not bound to the party that sends this", "207", "MSH-3"),
    Rule.CHANNEL: Judgement(Verdict.REFUSED, "the party may not send on this channel", "207", "MSH-3"),
    Rule.MESSAGE_TYPE: Judgement(Verdict.REFUSED, "the party may not send this message type", "200", "MSH-9"),
}
"""Table 0357: 207 application internal error, the one that its senders know for refusals; 200 unsupported message type."""


class Directory:
    """What the node knows of the parties: the last snapshot of the file that could be read. Belongs to the reactor thread."""

    def __init__(self, folder: Path, log: logging.Logger) -> None:
        self._folder, self._log = folder, log
        self._registry: Registry | None = None
        self._version = 0
        self._failing = False
        self.snapshot = Snapshot()

    def open(self) -> None:
        """Raises StoreError where the file cannot be used: then nobody could be told from anybody."""
        self._registry = Registry(self._folder)
        self._read(self._registry)

    def look_again(self) -> None:
        """Read the file again where it has changed. While it cannot be read, what was known stays in force, and the log says so once."""
        try:
            if self._registry is not None and self._registry.version() != self._version:
                self._read(self._registry)
            self._failing = False
        except StoreError as error:
            if not self._failing:
                self._log.error("the registry of parties cannot be read; what was known stays in force", extra={"reason": str(error)})
            self._failing = True

    def now(self) -> Snapshot:
        """The registry as the file is at this moment."""
        self.look_again()
        return self.snapshot

    def _read(self, registry: Registry) -> None:
        version = registry.version()  # before the rows: what changes in between is read next time
        self.snapshot = Snapshot(registry.parties().values())
        self._version = version
        self._log.info("parties read", extra={"parties": len(self.snapshot.parties)})

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None


class Gate:
    """Checks each message of one channel. What breaks a rule is audited and counted; `audit` takes an event and its facts."""

    def __init__(
        self, channel: str, check: PartyCheck, snapshot: Callable[[], Snapshot], *, metrics: Metrics, audit: Callable[..., None]
    ) -> None:
        self._channel, self._check, self._snapshot = channel, check, snapshot
        self._metrics, self._audit = metrics, audit

    def refusal(self, envelope: Envelope, invalid: Judgement | None) -> Judgement | None:
        """Why the message is refused for who sends it, None where it is not.

        `invalid` is what its source found: who was refused there stays refused so, and of a message that could not be read only
        what is known of its sender counts.
        """
        if invalid is not None and (invalid.verdict is Verdict.REFUSED or not (envelope.peer or envelope.sender)):
            return None
        finding = self._snapshot().check(envelope, self._channel)
        if finding is None or (invalid is not None and finding.rule in (Rule.CHANNEL, Rule.MESSAGE_TYPE)):
            return None
        refused = self._check is PartyCheck.REFUSE or finding.rule is Rule.DISABLED
        self._tell(envelope, finding, refused)
        if not refused:
            return None
        judgement = _JUDGEMENTS[finding.rule]
        return judgement if envelope.content_type == HL7V2 else Judgement(judgement.verdict, judgement.reason, judgement.hl7_code)

    def _tell(self, envelope: Envelope, finding: Finding, refused: bool) -> None:
        name = "meridian_parties_mismatch_total"
        self._metrics.counter(name, "messages of a party that may not send them", channel=self._channel, rule=finding.rule).inc()
        facts: dict[str, Any] = {
            "remote": envelope.remote,
            "proven": envelope.peer,
            "party": finding.party,
            "sender": envelope.sender[:_LONGEST],
            "control_id": envelope.control_id[:_LONGEST],
        }
        self._audit("parties.refused" if refused else "parties.flagged", channel=self._channel, rule=finding.rule, **facts)
