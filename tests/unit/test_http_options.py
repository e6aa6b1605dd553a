"""What `meridian check` says of an HTTP destination, and how a channel is checked against what it is posted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from channels import load
from engine.errors import ConfigError
from tests.support.plain_http import faults_of

URL = "https://lab.example/in"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"url": "https://${message.type}.example/"}, "never comes out of a message"),
        ({"url": "${message.type}://lab.example/"}, "never comes out of a message"),
        ({"url": "https://lab.example:${message.type}/"}, "never comes out of a message"),
        ({"url": "https://user:secret@lab.example/"}, "must not hold a user or password"),
        ({"url": "ftp://lab.example/"}, "is not an http or https address"),
        ({"url": "https://lab.example/a b"}, "must be percent-encoded"),
        ({"url": URL + "/${content.text}"}, "the whole content cannot be in an address"),
        ({"url": URL + "/${message.tpye}"}, "message.type"),
        ({"headers": {"Content-Length": "1"}}, "headers cannot say 'Content-Length'"),
        ({"headers": {"X Y": "1"}}, "headers cannot say 'X Y'"),
        ({"secret_headers": {"Authorization": "env:A"}}, "headers cannot say 'Authorization'"),
        ({"secret_headers": {"X-Key": "hunter2"}}, "never written here"),
        ({"body": {"json": {"a": "${tables.x}"}}}, "there is no ${tables.x}"),
        ({"body": {"text": '{"a": "${message.type}"}'}}, "could become markup"),
        ({"body": {"text": "<a>${message.type}</a>"}}, "could become markup"),
        ({"body": {"json": 1, "text": "a"}}, "needs exactly one of"),
        ({"retry_on": "5xx"}, "is no status"),
        ({"success_on": ["299-200"]}, "is no status"),
        ({"signature": {"scheme": "custom", "signed": "timestamp.body", "secret": "env:A"}}, "needs timestamp_header"),
        ({"auth": {"oauth2": {"token_url": "http://idp.example/t", "client_id": "a", "client_secret": "env:A"}}}, "token_url must be https"),
        ({"auth": {"oauth2": {"token_url": "https://idp.example/t", "client_id": "a"}}}, "needs one of client_secret and private_key"),
        ({"url": "http://lab.example/", "auth": {"bearer": "env:A"}}, "would go unencrypted"),
        ({"url": "http://lab.example/", "secret_headers": {"X-Key": "env:A"}}, "would go unencrypted"),
        ({"accepted_when": {"path": "a"}}, "needs 'accepted'"),
    ],
)  # fmt: skip
def test_what_a_channel_file_cannot_say(said: dict[str, Any], words: str) -> None:
    """Each with what would be right; a secret is never repeated."""
    text = faults_of("destination", {"url": URL, **said})
    assert words in text
    assert "hunter2" not in text


def checked(folder: Path, source: dict[str, Any], **channel: Any) -> str:
    """What is wrong with a site of one channel, "" when nothing is."""
    (folder / "channels").mkdir(exist_ok=True)
    (folder / "meridian.yaml").write_text("name: s\nparty: s\n")
    destinations = channel.pop("destinations", [])
    made = {"name": "c", "source": {"http": {"listen": 1, **source}}, "destinations": destinations, **channel}
    with (folder / "channels/c.yaml").open("w") as file:
        YAML().dump(made, file)
    try:
        load(folder)
    except ConfigError as error:
        return str(error)
    return ""


def test_paths_and_mappings_are_those_of_the_content(tmp_path: Path) -> None:
    """A path that none of the contents has, and a mapping of another, are said; what one of them has is fine."""
    accept = ["message['order.no'] == '1'"]
    assert checked(tmp_path, {}, accept=accept) == ""
    assert "is not a path such as Order/id" in checked(tmp_path, {"content": "xml"}, accept=["message['a[0].b'] == '1'"])
    assert checked(tmp_path, {"content": ["xml", "json"]}, accept=accept) == ""
    assert checked(tmp_path, {"content": "any"}, accept=accept) == ""
    kept: Any = {"map": "hl7v2-to-fhir", "destinations": [{"name": "kept", "fhir_repository": {}}]}
    assert "takes application/hl7-v2+er7, the source http gives application/json" in checked(tmp_path, {}, **kept)
    assert "'application/json' is not one of the choices" in checked(tmp_path, {"content": ["application/json", "xml"]}, **kept)
    assert checked(tmp_path, {"content": "hl7v2"}, **kept) == ""
    out = [{"name": "there", "http": {"url": URL + "/${PID..3}"}}]
    assert "there: " in checked(tmp_path, {"content": "hl7v2"}, destinations=out)
