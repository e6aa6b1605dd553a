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
    # the broken message, the transfer that an instrument broke off, the call that was cut off, another patient's document,
    # the old laboratory's row whose name was cut, the township center's row that lost a cell
    assert hospital["ledger"]["dead_lettered"] == 6
    (platform,) = [channel for channel in hospital["channels"] if channel["source"] == "soap"]
    assert (platform["received"], platform["delivered"]) == (18, 16)
    assert report["sent"]["codes"]["AE"] == 2
    (rows,) = [channel for channel in hospital["channels"] if channel["source"] == "database"]
    assert rows["received"] == rows["delivered"] + 1 == 10  # eight orders, one of them corrected, one that cannot be read
    (terminals,) = [channel for channel in hospital["channels"] if channel["source"] == "fhir"]
    assert (terminals["received"], terminals["delivered"]) == (29, 28)  # what one reports of a patient who is not its own is kept
    codes = report["sent"]["codes"]
    assert (codes["202"], codes["kept"] + codes["repeated"], codes["403"], codes["refused"]) == (16, 12, 1, 1)
    (files,) = [channel for channel in hospital["channels"] if channel["source"] == "file"]
    assert (files["received"], files["delivered"]) == (8, 7)
    landed = report["landed"]
    (intake,) = [node["ledger"]["received"] for node in report["nodes"] if node["name"] == "province-platform"]
    assert landed["landed_message"] == intake
    assert landed["patient"] >= 12
    assert landed["observation"] >= 24
    assert {channel["source"] for channel in hospital["channels"]} == {
        "mllp",
        "soap",
        "database",
        "fhir",
        "file",
        "astm",
        "worklist",
        "dicom",
        "dicom_archive",
        "dicom_worklist",
    }
