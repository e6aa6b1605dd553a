"""Point-of-care devices on a running node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.bench.loopback import HOST, free_port
from tests.support.poct1a_device import ACK, END_OF_TOPIC, HELLO, Device, ack, observations
from tests.support.sites import Site
from tests.support.waiting import until


@pytest.fixture
def site(tmp_path: Path) -> tuple[Site, int]:
    """A channel that maps what devices measure into the node's own repository."""
    port = free_port()
    site = Site(tmp_path)
    devices = tmp_path / "mappings" / "poct1a-to-fhir"
    devices.mkdir(parents=True)
    (devices / "instruments.csv").write_text("sender,facility,authority,tests\n*,COUNTY,HIS,\n")
    channel = {
        "name": "devices",
        "source": {"poct1a": {"listen": f"{HOST}:{port}"}},
        "map": "poct1a-to-fhir",
        "destinations": [{"name": "repository", "fhir_repository": {}}],
    }
    (tmp_path / "channels" / "devices.yaml").write_text(json.dumps(channel))
    return site, port


def test_a_device_tells_what_it_has_measured(site: tuple[Site, int]) -> None:
    """And goes on in continuous mode; what it sends twice is kept once; two devices do not wait for each other."""
    node, port = site
    with node.running(), Device(port) as first, Device(port, "S78") as second:
        for device in (first, second):
            device.introduce()
            device.send(observations(3))
            assert ack(device.heard()) == "AA"
            device.say(END_OF_TOPIC)
            assert ack(device.heard()) == "AA"
            directive = device.heard()
            assert directive.tag == "DTV.R01"
            device.say(ACK, code="AA", of=directive.find("HDR/HDR.control_id").get("V"))  # type: ignore[union-attr]
        first.send(observations(9))
        assert ack(first.heard()) == "AA"
        until(lambda: len(node.delivered()) == 2, "two deliveries")
    kept = node.kept()
    assert len(kept) == 2
    assert kept[0].body.endswith(observations(3))
    assert len(node.delivered()) == 2


def test_a_device_that_breaks_off_is_kept_as_invalid(site: tuple[Site, int]) -> None:
    node, port = site
    with node.running():
        with Device(port) as device:
            device.introduce()
            device.send(observations(3)[:200])
        with Device(port) as device:
            device.introduce()
            device.send(observations(3))
            assert ack(device.heard()) == "AA"
    assert sorted(one.verdict for one in node.kept()) == ["accepted", "invalid"]


@pytest.mark.parametrize(
    "garbage",
    [b"\x05\x02garbage", b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><a>&z;</a>', b"<a>" * 100_000, b"</a>"],
)
def test_garbage_ends_its_own_connection(site: tuple[Site, int], garbage: bytes) -> None:
    """It is kept, and the next device is served."""
    node, port = site
    with node.running():
        with Device(port) as device:
            device.send(garbage)
            with pytest.raises((EOFError, ConnectionError)):
                device.heard()
        with Device(port) as device:
            device.introduce()
    assert [one.verdict for one in node.kept()] == ["invalid"]


def test_a_message_that_cannot_be_read_is_answered_and_the_conversation_goes_on(site: tuple[Site, int]) -> None:
    node, port = site
    with node.running(), Device(port) as device:
        device.introduce()
        device.send(b'<OBS.R01><HDR><HDR.control_id V="7"/></HDR><SVC a="&nothing;"/></OBS.R01>')
        answer = device.heard()
        assert (ack(answer), answer.find("ACK/ACK.ack_control_id").get("V")) == ("AE", "7")  # type: ignore[union-attr]
        device.send(observations(8))
        assert ack(device.heard()) == "AA"
        device.say(HELLO, serial="S77")
        assert ack(device.heard()) == "AA"
