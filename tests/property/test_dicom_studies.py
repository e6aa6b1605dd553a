"""What is said of studies, against a model: any order of arrivals, waiting, procedure steps, crashes at every point, late instances."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adapters.dicom.archive.completion import CHANGED, COMPLETE, Rule, Steps, decide
from adapters.dicom.archive.notices import Notice, Notices, planned
from tests.support.dicom_archive import Archive, instance

SECOND = 1_000_000
RULE = Rule(10 * SECOND, 60 * SECOND, 600 * SECOND, 10 * SECOND)
STUDIES = st.sampled_from("12")


@dataclass
class Model:
    """One study: its instances with their contents, when it last changed, what its steps and its senders say, what was heard of it."""

    instances: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    awaited: int = 0
    steps: Steps = Steps()  # noqa: RUF009  it is frozen
    heard: list[tuple[int, str, dict[str, int]]] = field(default_factory=list)


class StudiesToldOf(RuleBasedStateMachine):
    """`heard` is what the channel has committed, by idempotency key: a version that comes again must be the same one."""

    @initialize()
    def begin(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.archive = Archive(Path(self.temporary.name) / "dicom")
        self.models = {study: Model() for study in "12"}
        self.channel: dict[tuple[str, int], tuple[str, bytes]] = {}
        self.notices = self.new_notices()

    def new_notices(self) -> Notices:
        notices = Notices(self.archive.folder, "c")
        notices.open()
        return notices

    def teardown(self) -> None:
        if not hasattr(self, "models"):
            return
        self.all_is_told_in_the_end()
        self.notices.close()
        self.archive.close()
        self.temporary.cleanup()

    # --- what happens ----------------------------------------------------------------------------

    @rule(study=STUDIES, number=st.integers(1, 3), content=st.integers(1, 2), awaited=st.sampled_from([0, 0, 2]))
    def arrive(self, study: str, number: int, content: int, awaited: int) -> None:
        model = self.models[study]
        more = {"NumberOfStudyRelatedInstances": str(awaited)} if awaited else {}
        (outcome,) = self.archive.keep(instance(number, study=study, Rows=content, **more))
        assert not outcome.fault
        if outcome.what != "had already":
            model.instances[f"2.25.{study}.1.{number}"] = content
            model.changed = self.archive.now
            model.awaited = awaited or model.awaited

    @rule(study=STUDIES, steps=st.sampled_from([Steps(), Steps(1), Steps(0, 1), Steps(0, 1, 1), Steps(1, 1)]))
    def perform(self, study: str, steps: Steps) -> None:
        self.models[study].steps = steps

    @rule(seconds=st.sampled_from([1, 10, 15, 60, 600]), crash=st.sampled_from(["", "", "planned", "committed"]))
    def wait_and_look(self, seconds: int, crash: str) -> None:
        """The round may die after it has planned, or after the channel has committed."""
        self.archive.now += seconds * SECOND
        self.look(crash)

    def look(self, crash: str) -> None:
        now = self.archive.now
        for listed in self.notices.due(now, 100):
            if listed.plan:
                self.hand_over(planned(listed), crash)
                continue
            decision = decide(listed.standing, self.models[listed.uid[-1]].steps, RULE, now)
            if not decision.kind:
                assert decision.look > now
                self.notices.look_again(listed, decision.look)
                continue
            self.check(listed.uid[-1], decision.kind, now)
            self.hand_over(self.notices.plan(listed, decision.kind, decision.by), crash)
        if crash:
            self.notices.close()
            self.notices = self.new_notices()

    def hand_over(self, notice: Notice, crash: str) -> None:
        if crash == "planned":
            return
        body = b"[" + b",".join(self.notices.content(notice)) + b"]"
        key = notice.uid, notice.version
        before = self.channel.setdefault(key, (notice.kind, body))
        assert before == (notice.kind, body), "the same version came with other content"
        if crash != "committed":
            self.notices.said(notice)

    def check(self, study: str, kind: str, now: int) -> None:
        """Why it may be said now, in the words of the table in adapters.dicom.archive.completion."""
        model = self.models[study]
        idle = now - model.changed
        lacks = model.steps.open or model.steps.missing or (model.awaited and len(model.instances) < model.awaited)
        sure = model.awaited or model.steps.ended
        needed = 600 if lacks else 10 if sure else 60
        if kind == COMPLETE:
            assert idle >= needed * SECOND
        else:
            assert kind == CHANGED
            assert 10 * SECOND <= idle < needed * SECOND

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def versions_have_no_gaps(self) -> None:
        for study in getattr(self, "models", ()):
            versions = sorted(version for uid, version in self.channel if uid == f"2.25.{study}")
            assert versions == list(range(1, len(versions) + 1))

    def all_is_told_in_the_end(self) -> None:
        """After a long silence the last word on each study is that it is complete, and it has all its instances as they are now."""
        self.archive.now += 601 * SECOND
        self.look("")
        self.look("")
        for study, model in self.models.items():
            if not model.instances:
                continue
            last = max(version for uid, version in self.channel if uid == f"2.25.{study}")
            kind, body = self.channel[f"2.25.{study}", last]
            assert kind == COMPLETE
            content = {one["00080018"]["Value"][0]: one["00280010"]["Value"][0] for one in orjson.loads(body)}
            assert content == model.instances
        assert self.notices.due(self.archive.now + 10_000 * SECOND, 10) == []


TestStudiesToldOf: Any = StudiesToldOf.TestCase
TestStudiesToldOf.settings = settings(deadline=None, max_examples=150, stateful_step_count=30)
