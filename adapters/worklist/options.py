"""What a channel file may say under ``worklist``."""

from __future__ import annotations

from typing import Final

from engine.options import DURATION, TEXT, Option, Spec, integer

_FILE: Final = Option("file", TEXT, "file of the worklist, relative to the site's data folder; channels that name the same file share it",
                      default="worklist.db")  # fmt: skip

DESTINATION: Final = Spec(
    "worklist destination",
    "Keeps orders (HL7 v2 ORM^O01, OML^O21, OML^O33, OML^O35) by the number of their specimen, and answers queries for them: a record Q of "
    "an instrument (ASTM^Q) with its orders, a QBP^Q11 (IHE LAW, LAB-27) with RSP^K11. For an answer the channel must say "
    "`answer: from NAME` of this destination, and for LAW another channel whose source is `worklist` sends the work orders.",
    [
        _FILE,
        Option("keep", DURATION, "how long an order may be asked for", default="7d"),
        Option(
            "tests",
            TEXT,
            "the instrument's table of test codes (mappings/astm-to-fhir/tests/NAME.csv), relative to the site: it is given "
            "its own codes, and only the tests that it has; without it the codes as they were ordered",
        ),
        Option("charset", TEXT, "character set of the instrument that asks, as its source says it", default="utf-8"),
        Option("most", integer(1, 10000), "orders in one answer; the newest are given", default=500),
    ],
)

SOURCE: Final = Spec(
    "worklist source",
    "Sends, for each specimen that an analyzer has asked for by QBP^Q11 (IHE LAW), a work order OML^O33 (LAB-28), or where there is "
    "nothing to do one that says so (ORC-1 is DC).",
    [_FILE, Option("poll", DURATION, "how often it looks for what was asked", default="500ms")],
)
