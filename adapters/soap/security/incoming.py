"""WS-Security of an endpoint: the options of a site, the trust of its certs folder, and the memory against replays, put to a message.

A repetition (ADR 021): who could not hear the answer sends the very same bytes again. They prove nothing new, and they are not taken
anew: they go to the intake, whose duplicate check says the stored answer. The same signature or nonce in any other bytes, or on another
channel, is a replay and is refused; with ``replay: refuse`` the very same bytes are, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from adapters.soap.security.files import check_files, outgoing, trust_folder
from adapters.soap.security.refusal import Code, Refusal
from adapters.soap.security.replays import Replays, Seen
from adapters.soap.security.trust import Trust
from adapters.soap.security.username import User
from adapters.soap.security.verify import Proof, Rules, verify
from adapters.soap.security.watched import Watched
from engine.errors import ConfigError, ParseError, StoreError
from engine.formats.soap import LIMITS, SENDER, SoapFault, SoapMessage
from engine.formats.xml import parse
from engine.identity import party_uri
from engine.options import Settings

if TYPE_CHECKING:
    from engine.contracts import Context

_SECOND: Final = 1_000_000
_FILE: Final = "soap-seen.db"
_NO_TRUST: Final = Trust()


class NotProven(SoapFault):
    """`why` and `party` (who it would have been, where that is known) are for the audit; the sender hears the standard's sentence."""

    code = "security.wss"

    def __init__(self, refusal: Refusal) -> None:
        fault = refusal.fault
        super().__init__(SENDER, fault.sentence, f"{{{fault.namespace}}}{fault.value}")
        self.why, self.party = refusal.text, refusal.party


@dataclass(frozen=True)
class Proven:
    """`party` is a party URI, `signed` says that it was proven by a signature over the Body, `elements` what else that was over.
    `repeated`: the very same bytes came before. `token` says by what, for the audit."""

    party: str = ""
    user: str = ""
    signed: bool = False
    repeated: bool = False
    token: str = ""
    elements: tuple[etree._Element, ...] = ()
    mark: bytes = field(default=b"", repr=False)


class Verifier:
    """adapters.soap.reading.Verifier"""

    def __init__(self, options: Settings, context: Context) -> None:
        """Raises ConfigError where files or passwords are not there."""
        self._channel, self._answers_repeated = context.name, options.replay == "answer"
        self._rules = _rules(options)
        check_files(context.tls.folder, options)
        trust = trust_folder(context.tls.folder, options)
        self._trust = Watched(trust.files, trust.read, context.log.warning)
        self._replays = None if options.require == "none" else Replays(context.data / _FILE)
        self._answers = outgoing(options.answers, context) if options.answers is not None else None

    def close(self) -> None:
        if self._replays is not None:
            self._replays.close()

    def verify(self, message: SoapMessage, now: int, *, digest: bytes = b"", encrypted: bool = False) -> Proven:
        """`digest` is that of the body as it is kept; `encrypted` says that it came by TLS. Raises NotProven, and StoreError where
        replays cannot be told just now."""
        if self._replays is None:
            return Proven()
        try:
            trust = self._trust.current() if self._rules.require == "signature" else _NO_TRUST
            proof = verify(message.root, self._rules, trust, now, content_of=_contents(message), encrypted=encrypted)
            return self._first(proof, message, digest, now)
        except Refusal as refusal:
            raise NotProven(refusal) from None
        except ConfigError:  # a secret has gone since the start
            raise StoreError("a password of the site cannot be read just now") from None

    def _first(self, proof: Proof, message: SoapMessage, digest: bytes, now: int) -> Proven:
        seen = self._remembered(proof, digest, now) if proof.mark else Seen.NEVER
        if seen is Seen.REPLAYED or (seen is Seen.REPEATED and not self._answers_repeated):
            raise Refusal(Code.FAILED_CHECK, "a replay: the same signature or nonce came before", party=proof.party)
        signed = proof.covers(message.body)
        return Proven(proof.party, proof.user, signed, seen is Seen.REPEATED, proof.token, tuple(proof.signed), proof.mark)

    def _remembered(self, proof: Proof, digest: bytes, now: int) -> Seen:
        assert self._replays is not None
        try:
            return self._replays.remember(proof.mark, self._channel, digest, proof.until, now)
        except sqlite3.Error as error:
            raise StoreError(f"replays cannot be told just now: {type(error).__name__}") from None

    def refuse_repeated(self, proven: Proven) -> None:
        """For a message that no duplicate check would know again. Raises NotProven where it is a repetition."""
        if proven.repeated:
            raise NotProven(Refusal(Code.FAILED_CHECK, "a replay: the same message came before", party=proven.party))

    def secure(self, answer: bytes, message: SoapMessage) -> bytes:
        """As it goes out now, so that the stored answer of a repetition has a new time. Raises StoreError where our key has gone."""
        if self._answers is None:
            return answer
        root = parse(answer, LIMITS)
        try:
            self._answers.secure(root)
        except ConfigError:
            raise StoreError("answers cannot be signed just now") from None
        written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
        return written

    def forget(self, proven: Proven) -> None:
        """It was not taken after all (the store was out of reach): let it come again."""
        if self._replays is not None and proven.mark and not proven.repeated:
            try:
                self._replays.forget(proven.mark)
            except sqlite3.Error as error:
                raise StoreError(f"replays cannot be told just now: {type(error).__name__}") from None


def verifier(options: Settings | None, context: Context) -> Verifier | None:
    """None where nothing is asked for and nothing is signed: a Security header that must be understood is then not. Raises ConfigError."""
    if options is None or (options.require == "none" and options.answers is None):
        return None
    return Verifier(options, context)


def _rules(options: Settings) -> Rules:
    users = {name: User(party_uri(user.party), user.password.reveal) for name, user in options.users.items()}
    return Rules(
        require=options.require,
        signed=options.signed,
        allow=options.allow,
        users=users,
        freshness=int(options.freshness * _SECOND),
        skew=int(options.clock_skew * _SECOND),
        sha1=options.sha1 == "allow",
        role=options.role,
    )


def _contents(message: SoapMessage) -> Any:
    def content_of(include: etree._Element) -> Iterable[bytes | memoryview]:
        try:
            return message.content_of(include.getparent()).pieces()
        except ParseError:
            raise Refusal(Code.INVALID_SECURITY, "an xop:Include that refers to nothing") from None

    return content_of
