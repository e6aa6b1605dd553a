"""`meridian parties`: what it changes is audited; a user's errors are one line and change nothing."""

from __future__ import annotations

import csv
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.audit import records, verify
from tests.support.cli import Said, meridian
from tests.support.entry import jwk, private_key, private_pem, public_pem

USER = pwd.getpwuid(os.getuid()).pw_name
COUNTY = (
    "add",
    "county",
    "--kind",
    "institution",
    "--identifier",
    "uscc|91110000600037341L",
    "--sender",
    "HIS|COUNTY",
    "--may-send",
    "ADT^*",
)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """`meridian parties` in a site that has never run."""
    (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUDO_USER", raising=False)
    run = meridian(monkeypatch, capfd)
    return lambda *arguments: run("parties", *arguments)


def ids(cli: Callable[..., Said]) -> list[str]:
    return [party["id"] for party in json.loads(cli("list", "--json").out)]


def events(folder: Path) -> list[tuple[str, str]]:
    return [(record.event, record.facts["party"]) for record in records(folder / "data/audit")]


def test_before_anything_is_registered(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Nothing is listed, and nothing is made."""
    assert cli("list", "--json").out == "[]\n"
    assert not (tmp_path / "data").exists()


def test_a_party_is_registered(cli: Callable[..., Said], tmp_path: Path) -> None:
    """All that was said is shown, and audited with who said it; of identifiers only the systems."""
    assert cli(*COUNTY, "--name", "安平县医院", "--channel", "adt").out == "county is registered\n"
    shown = json.loads(cli("show", "county", "--json").out)
    assert shown == {
        "id": "county", "kind": "institution", "name": "安平县医院", "belongs_to": "", "identifiers": ["uscc|91110000600037341L"],
        "certificates": [], "ae_titles": [], "senders": ["HIS|COUNTY"], "serials": [], "may_send": ["ADT^*"], "channels": ["adt"],
        "keys": [], "patients": [], "requests_per_minute": 0, "disabled_at": 0, "disabled_why": "",
    }  # fmt: skip
    assert "安平县医院" in cli("show", "county").out
    assert "ADT^*" in cli("list").out
    (record,) = records(tmp_path / "data/audit")
    assert (record.event, record.facts) == (
        "parties.added",
        {
            "user": USER, "party": "county", "kind": "institution", "name": "安平县医院", "identifiers": "uscc", "senders": "HIS|COUNTY",
            "may_send": "ADT^*", "channels": "adt",
        },
    )  # fmt: skip
    assert verify(tmp_path / "data/audit") == []
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (COUNTY, "'county' is registered; --change replaces it"),
        (("add", "x", "--kind", "device", "--change"), "there is no party 'x' to change"),
        (("add", "x", "--kind", "device", "--sender", "HIS|COUNTY"), "sender 'HIS|COUNTY' belongs to 'county' already"),
        (("add", "x", "--kind", "device", "--certificate", "county"), "certificate 'county' belongs to 'county' already"),
        (("add", "x", "--kind", "device", "--identifier", "uscc|91110000600037341L"), "uscc '91110000600037341L' belongs to 'county'"),
        (("add", "x", "--kind", "device", "--belongs-to", "nobody"), "there is no party 'nobody'"),
        (("add", "x", "--kind", "device", "--belongs-to", "x"), "belongs_to leads back to itself"),
        (("add", "x", "--kind", "robot"), "'robot' is no kind of party"),
        (("add", "X Y", "--kind", "device"), "'X Y' is not a party name"),
        (("add", "x", "--kind", "device", "--identifier", "uscc|91110000600037341M"), "has a wrong check character"),
        (("show", "countv"), "there is no party 'countv'; did you mean 'county'?"),
        (("disable", "x", "--reason", "r"), "there is no party 'x'"),
        (("disable", "county", "--reason", " "), "a reason has 1 to 200 characters"),
        (("enable", "x"), "there is no party 'x'"),
        (("import", "nowhere.csv"), "cannot read nowhere.csv: No such file"),
        (("import", "gbk.csv"), "gbk.csv is not utf-8; spreadsheets often write gb18030"),
        (("import", "gbk.csv", "--encoding", "latin-1"), "'latin-1' is not one of utf-8, gb18030"),
    ],
)
def test_errors(cli: Callable[..., Said], tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, one line, nothing changed or audited."""
    cli(*COUNTY)
    (tmp_path / "gbk.csv").write_bytes("id,kind,name\nx,device,仪器\n".encode("gb18030"))
    result = cli(*arguments)
    assert (result.code, result.err.count("\n"), result.out) == (2, 1, "")
    assert said in result.err
    assert ids(cli) == ["county"]
    assert events(tmp_path) == [("parties.added", "county")]


def test_disabled_and_enabled(cli: Callable[..., Said], tmp_path: Path) -> None:
    """With reason and time; a change of what is known of it leaves it disabled."""
    cli(*COUNTY)
    assert cli("disable", "county", "--reason", "contract ended").out == "county is disabled\n"
    assert "contract ended" in cli("list").out
    changed = json.loads(cli("add", "county", "--kind", "institution", "--change", "--json").out)
    assert changed["disabled_at"] > 1_700_000_000_000_000
    assert (changed["disabled_why"], changed["senders"]) == ("contract ended", [])
    assert json.loads(cli("enable", "county", "--json").out)["disabled_at"] == 0
    assert [event for event, _ in events(tmp_path)] == ["parties.added", "parties.disabled", "parties.changed", "parties.enabled"]
    assert [record.facts.get("reason") for record in records(tmp_path / "data/audit")][1] == "contract ended"


def test_unaudited_nothing_is_changed(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Where the record cannot be written, the change is undone."""
    cli(*COUNTY)
    audit = tmp_path / "data/audit"
    audit.rename(tmp_path / "kept")
    audit.write_text("a file in the way")
    for arguments in (("disable", "county", "--reason", "r"), ("add", "x", "--kind", "device")):
        result = cli(*arguments)
        assert (result.code, "must be audited" in result.err) == (2, True)
    assert [(party["id"], party["disabled_at"]) for party in json.loads(cli("list", "--json").out)] == [("county", 0)]


def test_a_damaged_registry(cli: Callable[..., Said], tmp_path: Path) -> None:
    """One line that names the file."""
    cli(*COUNTY)
    for file in (tmp_path / "data").glob("parties.db*"):
        file.unlink()
    (tmp_path / "data/parties.db").write_bytes(b"no database" * 1000)
    for arguments in (("list",), ("enable", "county")):
        result = cli(*arguments)
        assert (result.code, result.err) == (2, "meridian: parties.db: the database file is damaged (SQLITE_NOTADB)\n")


FILE = """\
id,kind,belongs_to,senders,may_send
analyzer-7,device,county,BC|COUNTY,ORU^R01
analyzer-8,device,county,CS|COUNTY,ORU^R01
"""


def test_import(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Added, then changed, then nothing to do; each party is audited with the file; who is not named stays."""
    cli(*COUNTY)
    (tmp_path / "p.csv").write_text("\ufeff" + FILE)
    assert cli("import", "p.csv").out == "2 added, 0 changed\n"
    cli("disable", "analyzer-8", "--reason", "r")
    (tmp_path / "p.csv").write_bytes(FILE.replace("CS|", "C5|").encode("gb18030"))
    assert json.loads(cli("import", "p.csv", "--encoding", "gb18030", "--json").out) == {
        "ok": True, "faults": [], "added": [], "changed": ["analyzer-8"],
    }  # fmt: skip
    assert cli("import", "p.csv").out == "0 added, 0 changed\n"
    shown = json.loads(cli("show", "analyzer-8", "--json").out)
    assert (shown["senders"], shown["disabled_why"]) == (["C5|COUNTY"], "r")
    assert ids(cli) == ["analyzer-7", "analyzer-8", "county"]
    assert events(tmp_path) == [
        ("parties.added", "county"), ("parties.added", "analyzer-7"), ("parties.added", "analyzer-8"), ("parties.disabled", "analyzer-8"),
        ("parties.changed", "analyzer-8"),
    ]  # fmt: skip
    assert [record.facts.get("file") for record in records(tmp_path / "data/audit")][1:3] == ["p.csv", "p.csv"]


def test_import_is_all_or_nothing(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Every faulty line is told, by itself and among each other, and none of the good ones is taken. Exit code 1."""
    cli(*COUNTY)
    (tmp_path / "p.csv").write_text(
        FILE + "b-1,robot,,,\nb-2,device,,HIS|COUNTY,\nb-3,device,nobody,BC|COUNTY,A*B\nb-4,device,b-5,,\nb-5,device,b-4,,\n"
    )
    result = cli("import", "p.csv")
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines() == [
        "p.csv:4: 'robot' is no kind of party: institution, staff, device",
        "p.csv:5: sender 'HIS|COUNTY' belongs to 'county' already",
        "p.csv:6: 'A*B' is no message type such as ADT^A01, ADT^* or *",
        "p.csv:6: sender 'BC|COUNTY' belongs to 'analyzer-7' already",
        "p.csv:6: belongs_to: there is no party 'nobody'",
        "p.csv:7: belongs_to leads back to itself",
        "p.csv:8: belongs_to leads back to itself",
        "nothing was imported: 7 faults",
    ]
    told = json.loads(cli("import", "p.csv", "--json").out)
    assert (told["ok"], len(told["faults"]), told["faults"][1]["line"], told["added"]) == (False, 7, 5, [])
    assert ids(cli) == ["county"]
    assert events(tmp_path) == [("parties.added", "county")]


def test_import_swaps_marks(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Two parties exchange their senders in one file."""
    (tmp_path / "p.csv").write_text("id,kind,senders\na,device,X|1\nb,device,X|2\n")
    cli("import", "p.csv")
    (tmp_path / "p.csv").write_text("id,kind,senders\na,device,X|2\nb,device,X|1\n")
    assert cli("import", "p.csv").out == "0 added, 2 changed\n"
    (tmp_path / "p.csv").write_text("id,kind,senders\na,device,X|1\n")
    assert cli("import", "p.csv").out == "p.csv:2: sender 'X|1' belongs to 'b' already\nnothing was imported: 1 fault\n"


def test_keys_are_registered_and_changed(cli: Callable[..., Said], tmp_path: Path) -> None:
    """A device gets its next key beside the old one, then loses the old one; the audit names keys, and no patient. Errors are a line."""
    (tmp_path / "old.pem").write_text(public_pem(private_key("EC")))
    (tmp_path / "new.json").write_text(jwk(private_key("RSA"), "new"))
    (tmp_path / "private.pem").write_bytes(private_pem(private_key("EC")))
    assert cli("add", "t-7", "--kind", "device", "--key", "old.pem", "--patient", "Patient/p1", "--requests-per-minute", "60").code == 0
    (old,) = json.loads(cli("show", "t-7", "--json").out)["keys"]
    assert cli("keys", "t-7", "--add", "new.json").out == "t-7 is changed\n"
    assert cli("keys", "t-7").out == f"{json.loads(old)['kid']} ES384\nnew RS384\n"
    assert cli("keys", "t-7", "--json").out.count('"kty"') == 2
    assert cli("keys", "t-7", "--remove", json.loads(old)["kid"]).code == 0
    shown = json.loads(cli("show", "t-7", "--json").out)
    assert [json.loads(key)["kid"] for key in shown["keys"]] == ["new"]
    assert (shown["patients"], shown["requests_per_minute"]) == (["Patient/p1"], 60)
    facts = [record.facts for record in records(tmp_path / "data/audit")]
    assert [one["keys"].split()[-1] for one in facts] == [json.loads(old)["kid"], "new", "new"]
    assert "p1" not in json.dumps(facts)
    for arguments, said in (
        (("keys", "t-7", "--remove", "old"), "t-7 has no key 'old'; it has new"),
        (("keys", "t-7", "--add", "private.pem"), "private key"),
        (("keys", "t-7", "--add", "nothing.pem"), "cannot read nothing.pem"),
        (("add", "t-8", "--kind", "device", "--patient", "p1"), "'p1' is no patient such as Patient/1234 or SYSTEM|VALUE"),
        (("add", "t-8", "--kind", "device", "--key", "new.json"), "belongs to 't-7' already"),
    ):
        result = cli(*arguments)
        assert result.code != 0
        assert said in result.err
        assert "Traceback" not in result.err


def test_keys_patients_and_rates_come_from_a_file(cli: Callable[..., Said], tmp_path: Path) -> None:
    """CSV columns of the same names; what is wrong in one is said with its line."""
    rows = [
        ["id", "kind", "keys", "patients", "requests_per_minute"],
        ["t-1", "device", jwk(private_key("EC"), "a"), "Patient/1;urn:oid:1.2|x", "60"],
    ]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert cli("import", "p.csv").out == "1 added, 0 changed\n"
    shown = json.loads(cli("show", "t-1", "--json").out)
    assert (shown["keys"], shown["patients"], shown["requests_per_minute"]) == ([rows[1][2]], ["Patient/1", "urn:oid:1.2|x"], 60)
    rows[1][2:] = ["{}", "", "many"]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert cli("import", "p.csv").out.startswith("p.csv:2: requests_per_minute: 'many' is no whole number")
