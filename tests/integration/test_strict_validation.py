"""A channel that asks for strict validation, in a running node: what does not conform is answered AE and kept, the rest is taken."""

from __future__ import annotations

from pathlib import Path

from tests.support.mllp import msa
from tests.support.mllp_line import Line
from tests.support.sites import Site


def result(control_id: str, value: str) -> bytes:
    segments = [
        f"MSH|^~\\&|LAB|HOSP|PLAT|CITY|20261123081500||ORU^R01^ORU_R01|{control_id}|P|2.5",
        "PID|||4711^^^H||Doe^Jo",
        "OBR|1|||CBC",
        f"OBX|1|NM|WBC||{value}||||||F",
    ]
    return ("\r".join(segments) + "\r").encode()


def test_strict_validation(tmp_path: Path) -> None:
    """AE and an ERR with place and condition for the result that is no number, without its value; AA for the one that is. Sent again, the
    bad one hears the same, and is kept once."""
    site = Site(tmp_path, validate="hl7apy", accept=["message.type == 'ORU^R01'"])
    with site.running(), Line(site.port) as line:
        refused = line.ask(result("1", "many"))
        assert msa(refused) == "AE|1"
        assert b"\rERR||OBX^1^5^1|102^Data type error^HL70357|E|" in refused
        assert b"many" not in refused
        assert msa(line.ask(result("2", "7.5"))) == "AA|2"
        assert line.ask(result("1", "many")) == refused
        assert msa(line.ask(result("3", "7.5").replace(b"ORU^R01^ORU_R01", b"ADT^A01"))) == "AR|3"
    assert [(one.control_id, one.verdict) for one in site.kept()] == [("1", "invalid"), ("2", "accepted"), ("3", "refused")]
    assert site.kept()[0].body == result("1", "many")
