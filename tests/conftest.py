"""What holds for every test."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase


@pytest.fixture(autouse=True)
def trial_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial makes its temporary folders where it stands, which under pytest is the project."""
    monkeypatch.setattr(SynchronousTestCase, "mktemp", lambda _: str(tmp_path_factory.mktemp("trial") / "folder"))
