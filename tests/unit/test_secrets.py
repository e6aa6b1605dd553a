"""Secrets by reference: never in a file of the site, never shown, missing ones named with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.fhir.options import DESTINATION
from certs import Authority, check
from channels import load
from channels.manual import manual, schemas
from engine.cli.check import _check as check_site
from engine.cli.composition import compose
from engine.errors import ConfigError
from engine.http_client import authorization
from engine.http_options import AUTH
from engine.secrets import reference
from engine.tls import SERVER_TLS, check_files

LITERAL = "Tr0ub4dor&3"
CHANNEL = """\
name: lab
source:
  mllp: {listen: 2575}
map: hl7v2-to-fhir
destinations:
  - name: platform
    fhir:
      url: "https://platform.example/fhir"
      auth: {AUTH}
"""


def site(folder: Path, auth: str) -> Path:
    (folder / "channels").mkdir()
    (folder / "meridian.yaml").write_text("name: n\nparty: n\n")
    (folder / "channels/lab.yaml").write_text(CHANNEL.replace("{AUTH}", auth))
    return folder


def faults(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder)
    return str(caught.value)


@pytest.mark.parametrize("auth", ["{bearer: %s}", "{basic: {user: u, password: '%s'}}", "{bearer: 'env:%s'}", "{bearer: ['%s']}"])
def test_a_literal_secret_is_refused_and_not_repeated(tmp_path: Path, auth: str) -> None:
    """With file, line and what to write instead."""
    said = faults(site(tmp_path, auth % LITERAL))
    assert said.startswith("channels/lab.yaml:9: destinations[1].fhir.auth.")
    assert "env:VARIABLE or file:PATH" in said
    assert LITERAL not in said


def test_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing or empty is a fault at check and at start; there, it is the value."""
    site(tmp_path, "{bearer: 'env:PLATFORM_TOKEN'}")
    monkeypatch.delenv("PLATFORM_TOKEN", raising=False)
    expected = "channels/lab.yaml:9: destinations[1].fhir.auth.bearer: the environment variable PLATFORM_TOKEN is not set"
    assert faults(tmp_path) == expected
    assert [str(fault) for fault in check_site(tmp_path)[0]] == [expected]
    with pytest.raises(ConfigError, match="PLATFORM_TOKEN is not set"):
        compose(tmp_path)
    assert load(tmp_path, secrets=False).channels  # tests of channels need no passwords
    monkeypatch.setenv("PLATFORM_TOKEN", "")
    assert "is empty" in faults(tmp_path)
    monkeypatch.setenv("PLATFORM_TOKEN", "abc")
    (channel,) = load(tmp_path).channels
    assert authorization(channel.outlets[0].options.auth) == "Bearer abc"


def test_a_file(tmp_path: Path) -> None:
    """Relative to the site; its last line end is not part of it; others must not be able to read it."""
    site(tmp_path, "{basic: {user: anping, password: file:secrets/platform}}")
    assert "channels/lab.yaml:9: destinations[1].fhir.auth.basic.password: cannot read the secret's file secrets/platform" in faults(
        tmp_path
    )
    file = tmp_path / "secrets/platform"
    file.parent.mkdir()
    for wrong, said in ((b"", "is empty"), (b"a\nb\n", "one line"), (b"\xff\n", "not UTF-8")):
        file.write_bytes(wrong)
        assert said in faults(tmp_path)
    file.write_text("pass word\n")
    file.chmod(0o644)
    loaded = load(tmp_path)
    assert "others can read secrets/platform: chmod 600" in str(loaded.warnings[0])
    file.chmod(0o600)
    assert load(tmp_path).warnings == []
    assert authorization(loaded.channels[0].outlets[0].options.auth) == "Basic YW5waW5nOnBhc3Mgd29yZA=="


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """In repr, in masked(), in JSON of it; nested and in lists."""
    monkeypatch.setenv("T", LITERAL)
    settings = DESTINATION.defaults(url="https://p/", auth={"basic": {"user": "u", "password": "env:T"}})
    for shown in (repr(settings), json.dumps(settings.masked()), repr([settings.auth]), repr(settings.auth.basic.password)):
        assert LITERAL not in shown
        assert "env:T" not in shown
        assert "***" in shown


@pytest.mark.parametrize("auth", [{}, {"bearer": "env:A", "basic": {"user": "u", "password": "env:A"}}])
def test_exactly_one_way_to_show_who_we_are(auth: dict[str, object]) -> None:
    """None or both is a fault."""
    with pytest.raises(ValueError, match="exactly one of bearer, basic"):
        AUTH.defaults(**auth)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "http://platform.example/fhir", "auth": {"bearer": "env:A"}}, "unencrypted"),
        ({"url": "http://platform.example/fhir", "tls": {}}, "the url is http"),
        ({"url": f"https://u:{LITERAL}@platform.example/fhir"}, "must not hold a user or password"),
        ({"url": "https://p/", "auth": {"basic": {"user": "a:b", "password": "env:A"}}}, "without a colon"),
    ],
)
def test_what_would_be_read_by_all(options: dict[str, object], said: str) -> None:
    """A token in the clear, TLS that is none, a password in an address."""
    with pytest.raises(ValueError, match=said) as caught:
        DESTINATION.defaults(**options)
    assert LITERAL not in str(caught.value)


def test_what_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that could break out of the header (RFC 6750 clause 2.1); the error does not repeat it."""
    monkeypatch.setenv("T", f"{LITERAL} x")
    with pytest.raises(ConfigError) as caught:
        authorization(AUTH.defaults(bearer="env:T"))
    assert LITERAL not in str(caught.value)


def test_schema_and_manual_say_how() -> None:
    """Editors refuse a literal, the manual names both ways."""
    text = json.dumps(schemas()["channel"])
    assert "(?:env:" in text
    assert '"maxProperties": 1' in text
    assert "`auth.basic`" in manual()
    assert "| `key_passphrase` | env:VARIABLE or file:PATH (relative to the site) |" in manual()


# --- the key of a certificate ------------------------------------------------------------------------


def test_an_encrypted_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens with its passphrase; every other way says what is wrong, in words."""
    monkeypatch.setenv("RIGHT", "correct horse")
    monkeypatch.setenv("WRONG", LITERAL)
    authority = Authority.create(tmp_path / "authority", "ca")
    authority.issue("locked", out=tmp_path / "locked", passphrase="correct horse")
    authority.issue("open", out=tmp_path / "open")
    check_files(tmp_path / "locked", SERVER_TLS.defaults(key_passphrase="env:RIGHT"))
    assert [finding for finding in check(tmp_path / "locked") if finding.problem] == []
    for folder, options, said in (
        ("locked", {}, "is encrypted"),
        ("locked", {"key_passphrase": "env:WRONG"}, "does not open"),
        ("open", {"key_passphrase": "env:RIGHT"}, "is not encrypted"),
        ("open", {"key_passphrase": "env:NOT_THERE"}, "NOT_THERE is not set"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            check_files(tmp_path / folder, SERVER_TLS.defaults(**options))
        assert LITERAL not in str(caught.value)


def test_a_renewed_key_stays_encrypted(tmp_path: Path) -> None:
    """Without a passphrase it is not renewed: the node would not open the new one."""
    authority = Authority.create(tmp_path / "authority", "ca")
    authority.issue("locked", out=tmp_path / "locked", passphrase="a")
    before = (tmp_path / "locked/node.key").read_bytes()
    with pytest.raises(ConfigError, match="--passphrase"):
        authority.renew("locked")
    assert (tmp_path / "locked/node.key").read_bytes() == before
    authority.renew("locked", passphrase="b")
    assert b"ENCRYPTED" in (tmp_path / "locked/node.key").read_bytes()


def test_check_loads_what_a_channel_uses(tmp_path: Path) -> None:
    """A certificate that is missing although others are there: a fault with the channel's file and line."""
    site(tmp_path, "{bearer: env:HOME}")
    file = tmp_path / "channels/lab.yaml"
    file.write_text(file.read_text().replace("{listen: 2575}", "{listen: 2575, tls: {certificate: other.pem}}"))
    Authority.create(tmp_path / "certs", "ca").issue("n")
    (fault,) = check_site(tmp_path)[0]
    assert (fault.file, fault.line) == ("channels/lab.yaml", 3)
    assert "other.pem: No such file" in fault.text


def test_a_reference_without_a_place() -> None:
    """An error of a secret that was made by hand has no place to name."""
    with pytest.raises(ConfigError, match="not set"):
        reference("env:SURELY_NOT_SET").reveal()
