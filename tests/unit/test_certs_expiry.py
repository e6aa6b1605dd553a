"""Days left: of our own certificate, of each authority, of each revocation list; and the warnings before the end."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from certs import Authority
from engine.observe import Metrics
from engine.tls import TlsProvider


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's certificate for 20 days, its own authority, and a partner's with its list."""
    Authority.create(tmp_path / "own", "own CA").issue("hospital", out=tmp_path / "node", valid_for=timedelta(days=20))
    Authority.create(tmp_path / "partner", "partner CA").copy_trust(tmp_path / "node")
    return tmp_path / "node"


def provider(folder: Path) -> tuple[TlsProvider, Metrics]:
    metrics = Metrics()
    audit = lambda event, **facts: None  # noqa: E731
    return TlsProvider(folder, reactor=Clock(), log=logging.getLogger("test.tls"), metrics=metrics, audit=audit), metrics


def days(metrics: Metrics) -> dict[tuple[str, str, str], int]:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    found = [sample for sample in samples if sample.name == "meridian_certificate_days_left"]
    return {(one.labels["certificate"], one.labels["kind"], one.labels["subject"]): round(one.value) for one in found}


def test_days_left_of_each(folder: Path) -> None:
    """Each authority and list by its name, not only the first of a file."""
    tls, metrics = provider(folder)
    tls.look_again()
    assert days(metrics) == {
        ("node.pem", "own", "hospital"): 20,
        ("ca.pem", "authority", "own CA"): 3650,
        ("ca.pem", "authority", "partner CA"): 3650,
        ("crl.pem", "revocation list", "own CA"): 30,
        ("crl.pem", "revocation list", "partner CA"): 30,
    }


def test_what_is_gone_is_shown_no_more(folder: Path) -> None:
    """A metric that stays at its last value would hide that a file is missing."""
    tls, metrics = provider(folder)
    tls.look_again()
    (folder / "crl.pem").unlink()
    tls.look_again()
    assert {file for file, _, _ in days(metrics)} == {"node.pem", "ca.pem"}


def test_a_warning_before_the_end(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under 30 days for a certificate, once; a list of 30 days is fresh."""
    tls, _ = provider(folder)
    with caplog.at_level(logging.WARNING):
        tls.look_again()
        tls.look_again()
    assert [record.message for record in caplog.records] == ["node.pem: own hospital expires in less than 30 days"]


def test_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Less than nothing left, and said."""
    Authority.create(tmp_path / "own", "own CA").issue("hospital", out=tmp_path / "node", valid_for=timedelta(seconds=1))
    tls, metrics = provider(tmp_path / "node")
    with caplog.at_level(logging.WARNING):
        tls.look_again()
    assert (
        metrics.registry.get_sample_value(
            "meridian_certificate_days_left", {"certificate": "node.pem", "kind": "own", "subject": "hospital"}
        )
        < 0
    )  # type: ignore[operator]
    assert [record.message for record in caplog.records] == ["node.pem: own hospital has expired"]
