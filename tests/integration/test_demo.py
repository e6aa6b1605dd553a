"""The demo, as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_exit_json_tells_that_all_is_well() -> None:
    """One JSON object: ok, both ledgers close, and what was received is accounted for."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", "demo", "--exit", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True), done.stdout + done.stderr
    assert {node["name"] for node in report["nodes"]} == {"province-platform", "county-hospital"}
    for node in report["nodes"]:
        ledger = node["ledger"]
        ends = ledger["delivered"] + ledger["filtered"] + ledger["dead_lettered"] + ledger["in_flight"]
        assert ledger["closes"]
        assert ledger["received"] == ends
        assert {"name", "source", "received", "delivered"} <= set(node["channels"][0])
    hospital = next(node for node in report["nodes"] if node["name"] == "county-hospital")
    # the broken message, the transfer that an instrument broke off, the call that was cut off, another patient's document
    assert hospital["ledger"]["dead_lettered"] == 4
    (platform,) = [channel for channel in hospital["channels"] if channel["source"] == "soap"]
    assert (platform["received"], platform["delivered"]) == (18, 16)
    assert report["sent"]["codes"]["AE"] == 2
    assert {channel["source"] for channel in hospital["channels"]} == {
        "mllp",
        "soap",
        "astm",
        "worklist",
        "dicom",
        "dicom_archive",
        "dicom_worklist",
    }
