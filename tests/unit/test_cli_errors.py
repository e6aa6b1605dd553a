"""A user's errors end a command with one line, before any reactor runs or a connection is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from engine.cli import opened
from engine.errors import ConfigError
from tests.support.cli import Said, meridian


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.hl7").write_text("MSH|")
    return meridian(monkeypatch, capfd)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "nowhere", "a.hl7"), "--to: 'nowhere' is not a port"),
        (("--peer", "A B", "a.hl7"), "'A B' is not a party name"),
        (("--certs", ".", "--passphrase", "hunter2", "a.hl7"), "a secret is never written here"),
        (("b.hl7",), "cannot read b.hl7: No such file"),
    ],
)
def test_send(cli: Callable[..., Said], arguments: tuple[str, ...], said: str) -> None:
    """A wrong address once left the command hanging with a traceback."""
    result = cli("send", *arguments)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert "hunter2" not in result.err


class OnceReactor:
    """Runs what was asked for, and ends when told: `run` returns only after `stop`."""

    def __init__(self) -> None:
        self._work: list[Callable[[], object]] = []
        self.stopped = False

    def callWhenRunning(self, work: Callable[[], object]) -> None:
        self._work.append(work)

    def run(self) -> None:
        for work in self._work:
            work()
        assert self.stopped, "the command would hang"

    def stop(self) -> None:
        self.stopped = True


def test_work_that_fails_at_once_ends_the_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has given a Deferred: its error is raised, and the command does not hang."""

    def work() -> Deferred[None]:
        raise ConfigError("no")

    monkeypatch.setattr(opened, "reactor", OnceReactor())
    with pytest.raises(ConfigError, match="no"):
        opened.run(work)
