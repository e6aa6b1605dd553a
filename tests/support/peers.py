"""Foreign software that tests need: skipped with the reason where it is missing, an error under CI=true."""

import os

import pytest


def require(there: bool, reason: str) -> None:
    """Skip the calling test with `reason` unless `there`; in CI the peer was to be installed, so fail."""
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"a required peer is missing: {reason}")
    pytest.skip(reason)
