"""The lanes of an ordered actor, as a state machine beside a model that is too simple to be wrong."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from walnatsd.dispatch.lanes import Lanes, Place, Stage


@dataclass
class Model:
    key: int
    sequence: int
    stage: str = "waiting"
    not_before: float = 0.0


class LanesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[Place] = Lanes()
        self.places: dict[int, Place] = {}
        self.model: dict[int, Model] = {}
        self.now = 0.0

    def is_next(self, one: Model) -> bool:
        lane = [each for each in self.model.values() if each.key == one.key]
        return all(each.stage == "waiting" and one.sequence <= each.sequence for each in lane)

    def ready(self) -> list[int]:
        return sorted(
            each.sequence for each in self.model.values() if each.not_before <= self.now and self.is_next(each)
        )

    def pick(self, data: st.DataObject, stage: str) -> int:
        return data.draw(st.sampled_from(sorted(s for s, each in self.model.items() if each.stage == stage)))

    def some(self, stage: str) -> bool:
        return any(each.stage == stage for each in self.model.values())

    @rule(sequence=st.integers(0, 60), key=st.integers(0, 3), delay=st.sampled_from([0.0, 0.0, 3.0]))
    def a_message_comes(self, sequence: int, key: int, delay: float) -> None:
        if sequence in self.model:
            return
        not_before = self.now + delay if delay else 0.0
        self.places[sequence] = Place(lane=key, sequence=sequence, not_before=not_before)
        self.model[sequence] = Model(key, sequence, not_before=not_before)
        self.lanes.add(self.places[sequence])

    @rule()
    def one_is_taken(self) -> None:
        ready = self.ready()
        place = self.lanes.take(self.now)
        assert (place.sequence if place else None) == (ready[0] if ready else None)
        if place:
            assert place.stage is Stage.RUNNING
            self.model[place.sequence].stage = "running"

    @precondition(lambda self: self.some("running"))
    @rule(data=st.data(), delay=st.integers(0, 5))
    def one_is_to_be_tried_again_and_stays_in_hand(self, data: st.DataObject, delay: int) -> None:
        sequence = self.pick(data, "running")
        self.lanes.wait(self.places[sequence], self.now + delay)
        self.model[sequence].stage, self.model[sequence].not_before = "waiting", self.now + delay

    @precondition(lambda self: self.some("running"))
    @rule(data=st.data(), delay=st.integers(0, 5))
    def one_is_handed_back_for_its_next_attempt(self, data: st.DataObject, delay: int) -> None:
        sequence = self.pick(data, "running")
        self.lanes.send_away(self.places[sequence], self.now + delay)
        self.model[sequence].stage, self.model[sequence].not_before = "away", self.now + delay

    @precondition(lambda self: self.some("away"))
    @rule(data=st.data())
    def one_comes_again(self, data: st.DataObject) -> None:
        sequence = self.pick(data, "away")
        self.lanes.wait(self.places[sequence], self.places[sequence].not_before)
        self.model[sequence].stage = "waiting"

    @precondition(lambda self: self.some("running"))
    @rule(data=st.data())
    def one_is_settled(self, data: st.DataObject) -> None:
        sequence = self.pick(data, "running")
        self.lanes.remove(self.places[sequence])
        del self.model[sequence]

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def all_that_waits_is_handed_back(self) -> None:
        waiting = sorted(sequence for sequence, each in self.model.items() if each.stage == "waiting")
        assert [place.sequence for place in self.lanes.clear()] == waiting
        for sequence in waiting:
            self.lanes.remove(self.places[sequence])
        self.model = {sequence: each for sequence, each in self.model.items() if each.stage == "running"}

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert sorted(place.sequence for place in self.lanes) == sorted(self.model)
        assert self.lanes.away == sum(each.stage == "away" for each in self.model.values())

    @invariant()
    def it_counts_what_is_ready(self) -> None:
        ready = self.ready()
        assert self.lanes.ready(self.now) >= len(ready)
        if not ready:
            later = [each.not_before for each in self.model.values() if self.is_next(each)]
            if later:
                next_at = self.lanes.next_at()
                assert next_at is not None
                assert next_at <= min(later)


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
