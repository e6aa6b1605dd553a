"""The delivery window against a model: random parcels, failures and drains, any order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.channel import Order
from engine.message import Parcel
from engine.window import LANE, Window


def parcel(seq: int, key: str) -> Parcel:
    return Parcel(seq, seq, b"x", "text/plain", "T", f"C{seq}", f"K{seq}", order_key=key)


class WindowMachine(RuleBasedStateMachine):
    """Whatever happens: each parcel ends once, in order within its key, and none is forgotten."""

    order = Order.BY_PATIENT

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.order)
        self.stored: dict[int, Parcel] = {}
        self.under_way: list[Parcel] = []
        self.ended: list[Parcel] = []
        self.next_seq = 1
        self.now = 1

    @rule(key=st.sampled_from(["a", "b", ""]), count=st.integers(1, LANE + 5))
    def add(self, key: str, count: int) -> None:
        for _ in range(count):
            new = parcel(self.next_seq, key)
            self.stored[new.seq] = new
            self.window.add(new)
            self.next_seq += 1

    @rule()
    def take(self) -> None:
        taken = self.window.take()
        if taken is not None:
            assert all(self.lane(other) != self.lane(taken) for other in self.under_way)
            self.under_way.append(taken)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        ended = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.window.done(ended)
        del self.stored[ended.seq]
        self.ended.append(ended)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), wait=st.integers(0, 3))
    def fail(self, data: st.DataObject, wait: int) -> None:
        failed = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.window.retry(failed, self.now + wait if wait else 0)

    @rule()
    def time_passes(self) -> None:
        self.now += 2
        self.window.wake(self.now)

    @rule()
    def reload(self) -> None:
        lane = self.window.lane_to_reload()
        if lane is not None:
            key, after = lane
            rows = [row for seq, row in sorted(self.stored.items()) if after < seq <= self.window.tail and row.order_key == key]
            self.window.reload(key, rows[:LANE], LANE)

    @invariant()
    def in_order_within_a_lane(self) -> None:
        last: dict[object, int] = {}
        for one in self.ended:
            assert last.get(self.lane(one), 0) < one.seq
            last[self.lane(one)] = one.seq

    def lane(self, one: Parcel) -> object:
        return "all" if self.order is Order.STRICT else (one.order_key or one.seq) if self.order is Order.BY_PATIENT else one.seq

    def teardown(self) -> None:
        """Nothing is forgotten: once all goes well, everything that was stored has ended."""
        for _ in range(10 * self.next_seq + 10):
            self.now += 10
            self.window.wake(self.now)
            self.take()
            self.reload()
            while self.under_way:
                one = self.under_way.pop()
                self.window.done(one)
                del self.stored[one.seq]
                self.ended.append(one)
        self.in_order_within_a_lane()
        assert not self.stored
        assert len(self.window) == 0


class StrictMachine(WindowMachine):
    order = Order.STRICT


class UnorderedMachine(WindowMachine):
    order = Order.NONE


TestByPatient = WindowMachine.TestCase
TestStrict = StrictMachine.TestCase
TestUnordered = UnorderedMachine.TestCase
for _case in (TestByPatient, TestStrict, TestUnordered):
    _case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
del _case
