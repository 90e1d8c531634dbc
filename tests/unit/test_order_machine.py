"""Order by key as a state machine: sidecars that answer, fail, freeze, die and lose the pin, in any sequence.

However it goes: of a key one attempt at a time, no message first attempted after a later one, and nothing lost.
"""

import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.order_world import Sidecar, World
from walnatsd.model.outcome import Verdict

VERDICTS = [Verdict.ACKNOWLEDGED] * 4 + [Verdict.FAILED] * 2 + [Verdict.REJECTED, Verdict.UNAVAILABLE, Verdict.GONE]


EVENTS = ["pin", "hear", "hear", "freeze", "wake", "kill"]
Work = tuple[list[Verdict], bool]
work = st.tuples(st.lists(st.sampled_from(VERDICTS), max_size=10), st.booleans())


class OrderMachine(RuleBasedStateMachine):
    @initialize(keys=st.lists(st.sampled_from([0, 0, 1, 1, 2, None]), min_size=3, max_size=12))
    def begin(self, keys: list[int | None]) -> None:
        self.world = World()
        for key in keys:
            self.world.server.messages.append((key, 0.0))
        self.world.pin(self.world.sidecars[0])

    @rule(
        keys=st.lists(st.sampled_from([0, 0, 1, 1, 2, None]), max_size=4),
        delay_s=st.sampled_from([0, 0, 0, 4]),
        work=work,
    )
    def somebody_emits(self, keys: list[int | None], delay_s: int, work: Work) -> None:
        for key in keys:
            self.world.server.messages.append((key, time.time() + delay_s if delay_s else 0.0))
        self.work_goes_on(work)

    @rule(seconds=st.sampled_from([1.0, 3.5, 6.0]), work=work)
    def time_passes(self, seconds: float, work: Work) -> None:
        self.world.advance(seconds)
        self.world.server.paused = False
        self.work_goes_on(work)

    def work_goes_on(self, work: Work) -> None:
        """Messages come, attempts begin, and the oldest or the newest of them is answered."""
        verdicts, newest_first = work
        world = self.world
        for verdict in verdicts:
            world.deliver(3)
            world.settle_down()
            if in_flight := self.in_flight():
                world.answer(*in_flight[-1 if newest_first else 0], verdict)
            world.advance(0.1)

    def in_flight(self) -> list[tuple[Sidecar, int]]:
        return [
            (sidecar, sequence)
            for sidecar in self.world.sidecars
            if not sidecar.is_frozen
            for sequence, future in sorted(sidecar.in_flight.items())
            if not future.done()
        ]

    @rule(which=st.integers(0, 1), what=st.sampled_from(EVENTS), work=work)
    def something_happens(self, which: int, what: str, work: Work) -> None:
        world, sidecar = self.world, self.world.sidecars[which]
        match what:
            case "pin":
                world.pin(sidecar)
            case "hear":
                sidecar.hear()
            case "freeze":
                sidecar.freeze()
            case "wake":
                sidecar.is_frozen = False
            case "kill":
                world.replace(sidecar)
        self.work_goes_on(work)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            for sidecar in world.sidecars:
                sidecar.is_frozen = False
            for _ in range(400):
                world.server.paused = False
                if len(world.server.settled) == len(world.server.messages):
                    break
                world.deliver(20)
                world.settle_down()
                for sidecar, sequence in self.in_flight():
                    world.answer(sidecar, sequence, Verdict.ACKNOWLEDGED)
                for sidecar in world.sidecars:
                    sidecar.hear()
                world.advance(0.5)
            assert len(world.server.settled) == len(world.server.messages), "something is lost"
            assert world.attempted == world.server.settled
        finally:
            world.close()


TestOrder = OrderMachine.TestCase
TestOrder.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
