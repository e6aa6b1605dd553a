"""What meridian.yaml and a channel file may say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from engine.errors import Fault
from engine.expressions import ExpressionError, Predicate, compile_predicate
from engine.identity import party_uri
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, Faulty, Kind, ListOf, Option, Place, Spec, choice, integer

_NAME: Final = "[a-z0-9][a-z0-9_-]{0,63}"


def _expression(raw: Any) -> Predicate:
    try:
        return compile_predicate(str(raw))
    except ExpressionError as error:
        raise Faulty(str(error), nearest=error.nearest) from None


def _party(raw: Any) -> str:
    try:
        return party_uri(str(raw))
    except ValueError as error:
        raise Faulty(str(error)) from None


def _name(raw: Any) -> str:
    """Names are in folders, in CHANNEL/DESTINATION and in metric labels."""
    if not isinstance(raw, str) or not re.fullmatch(_NAME, raw):
        raise Faulty(f"{raw!r} cannot be a name")
    return raw


def _any(raw: Any) -> Any:
    return raw


EXPRESSION: Final = Kind("expression", "an expression such as message.type in ['ADT^A01']", _expression, {"type": "string"})
PARTY: Final = Kind("party", "a party name such as county-hospital", _party, {"type": "string"})
ADAPTED: Final = Kind("adapter", "an adapter's name with its options", _any, {"type": "object"})
NAME: Final = Kind("name", "small letters, digits, dash and underscore, at most 64", _name, {"type": "string", "pattern": f"^{_NAME}$"})

NODE: Final = Spec(
    "meridian.yaml",
    "Who this node is, and how it runs.",
    [
        Option("name", TEXT, "the node's name", required=True),
        Option("party", PARTY, "the party that its certificate names", required=True),
        Option("institution", TEXT, "the institution, in its own words"),
        Option("level", choice("hospital", "laboratory", "county", "city", "province", "nation"), "where in the hierarchy it stands"),
        Option("certs", TEXT, "folder of the certificates, relative to the site", default="certs"),
        Option("workers", integer(0, 64), "processes that map and validate; 0: in the node's own", default=1),
        Option(
            "store",
            Spec(
                "store",
                "The embedded store.",
                [
                    Option("path", TEXT, "folder of the data, relative to the site", default="data"),
                    Option("inline_limit", SIZE, "bodies longer than this are files of their own", default="64KB"),
                    Option("min_free", SIZE, "refuse messages when the disk has less than this left", default="200MB"),
                    Option("retention", DURATION, "remove settled messages after this; default: keep everything"),
                ],
            ),
            "the embedded store",
            default={},
        ),
        Option(
            "audit",
            choice("tolerant", "strict"),
            'strict: while the audit log cannot be written, messages are answered with the protocol\'s "try later" and reads are refused',
            default="tolerant",
        ),
        Option(
            "http",
            Spec("http", "Metrics and health.", [Option("listen", ADDRESS, "where", default="127.0.0.1:9464")], scalar="listen"),
            "where /metrics, /livez and /readyz are; leave it out for none",
        ),
        Option(
            "log",
            Spec(
                "log",
                "The log.",
                [Option("level", choice("DEBUG", "INFO", "WARNING", "ERROR"), "least level", default="INFO")],
                scalar="level",
            ),
            "the log",
            default={},
        ),
    ],
)

CHANNEL: Final = Spec(
    "channel",
    "A way for messages: one source, what it accepts, how it is mapped, where it goes.",
    [
        Option("name", NAME, "the channel's name", required=True),
        Option("doc", TEXT, "what it is for, in your own words"),
        Option("enabled", FLAG, "whether it runs", default=True),
        Option("source", ADAPTED, "where messages come in: an adapter and its options", required=True),
        Option("accept", ListOf(EXPRESSION), "what is taken; other messages are refused (AR) and kept", default=[]),
        Option(
            "validate", choice("none", "hl7apy"), "check the content before the answer; what fails is answered AE and kept", default="none"
        ),
        Option(
            "parties",
            choice("refuse", "flag", "off"),
            "messages that their party may not send by the registry (meridian parties): refuse them, or take and audit them; those of "
            "disabled parties are refused both ways",
            default="off",
        ),
        Option("filter", ListOf(EXPRESSION), "what goes on; other messages are accepted, kept, and go nowhere", default=[]),
        Option("map", TEXT, "the mapping, such as hl7v2-to-fhir; none: content goes on as it came"),
        Option("answer", TEXT, "`at commit`, or `from DESTINATION`: the sender hears that destination's result", default="at commit"),
        Option("answer_within", DURATION, "how long the sender waits for that result", default="30s"),
        Option(
            "duplicates",
            Spec(
                "duplicates",
                "The same message sent again.",
                [
                    Option("window", DURATION, "how far back a repetition is recognized", default="7d"),
                    Option(
                        "reused_key",
                        choice("refuse", "accept", "flag"),
                        "a control id (or SOP Instance UID) that comes again with other content: refused and kept; taken as new; "
                        "or taken as new, audited, counted and shown with a reason. Default: refuse; of a dicom source flag",
                    ),
                ],
            ),
            "how repetitions are treated",
            default={},
        ),
        Option("destinations", ListOf(ADAPTED), "where messages go; each has its own queue", default=[]),
    ],
)

DESTINATION: Final = Spec(
    "destination",
    "Where messages go.",
    [
        Option("name", NAME, "the destination's name", required=True),
        Option("when", ListOf(EXPRESSION), "which messages go there; default: all", default=[]),
        Option("map", TEXT, "a mapping of its own; `none`: content as it came; default: the channel's"),
        Option("order", choice("strict", "by patient", "none"), "which messages may overtake each other", default="by patient"),
        Option(
            "retry",
            Spec(
                "retry",
                "Back-off after a failed attempt.",
                [
                    Option("first", DURATION, "first wait; it doubles each time", default="1s"),
                    Option("most", DURATION, "longest wait", default="5m"),
                    Option("give_up_after", DURATION, "after this the message is a dead letter", default="3d"),
                ],
            ),
            "when to try again",
            default={},
        ),
    ],
)


def split_adapter(node: Any, own: Spec, known: Sequence[str], place: Place, faults: list[Fault]) -> tuple[str, Any, Any]:
    """Separate the one adapter key of `node` from the options of `own`: gives adapter name, its options node, the rest.

    An adapter name of "" means that there was none; the fault is noted.
    """
    if not isinstance(node, dict):
        faults.append(Fault(place.file, place.line, f"{place.path} must be a mapping with an adapter", ", ".join(known)))
        return "", None, {}
    named = [key for key in node if key not in own.by_name]
    found = [key for key in named if key in known]
    for key in named:
        if key not in known:
            nearest = get_close_matches(str(key), [*known, *own.by_name], 1)
            where = place.child(node, key)
            allowed = ", ".join([*known, *own.by_name])
            faults.append(Fault(where.file, where.line, f"{place.path}: there is no {str(key)!r}", allowed, nearest[0] if nearest else ""))
    if len(found) != 1 and (found or not named):
        text = "needs an adapter" if not found else f"has {len(found)} adapters, one is allowed"
        faults.append(Fault(place.file, place.line, f"{place.path} {text}", ", ".join(known)))
    adapter = found[0] if found else ""
    rest: Any = type(node)()
    for key in node:
        if key in own.by_name:
            rest[key] = node[key]
    marks = getattr(node, "lc", None)
    if marks is not None:  # the copy keeps the line numbers
        rest._yaml_set_line_col(marks.line, marks.col)
        rest.lc.data = marks.data
    return adapter, node.get(adapter) if adapter else None, rest
