"""Messages that are waited for one by one, and leave together."""

from collections.abc import Callable

import pytest

from walnatsd.broker.group_commit import FEW, MOST_TICKS, MOST_TOGETHER, TICK_S, GroupCommit


class Timer:
    """Stands for the event loop's."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "Timer":
        assert delay_s == TICK_S
        assert self.callback is None
        self.callback = callback
        return self

    def cancel(self) -> None:
        self.callback = None

    def tick(self) -> None:
        callback, self.callback = self.callback, None
        assert callback is not None
        callback()


class Sender:
    """Emits through a group, and notes how many leave together."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.writes: list[int] = []
        self.held = 0
        self.group = GroupCommit(self.leave)
        self.group._loop = self.timer

    def leave(self) -> None:
        self.writes.append(self.held)
        self.held = 0
        self.group.left()

    def emit(self, count: int = 1) -> None:
        for _ in range(count):
            self.held += 1
            self.group.add()

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self.group.answered()

    @property
    def waits(self) -> bool:
        return self.timer.callback is not None


@pytest.fixture
async def sender() -> Sender:
    return Sender()


async def test_who_is_alone_never_waits(sender) -> None:
    for _ in range(5):
        sender.emit()
        assert not sender.waits
        sender.answer()
    assert sender.writes == [1] * 5


async def test_one_that_comes_while_another_is_unanswered_waits_for_a_tick(sender) -> None:
    sender.emit()
    sender.emit()
    assert sender.writes == [1]
    sender.timer.tick()
    assert sender.writes == [1, 1]
    assert not sender.waits


async def test_after_a_tick_in_which_none_came_nobody_is_expected_any_more(sender) -> None:
    sender.emit(2)
    sender.timer.tick()
    sender.answer(2)
    sender.emit()
    assert sender.writes == [1, 1, 1]


async def test_those_that_came_together_are_expected_together(sender) -> None:
    sender.emit(4)
    sender.timer.tick()  # two came after the first that was held, so there may be more
    assert sender.writes == [1]
    sender.timer.tick()
    assert sender.writes == [1, 3]
    sender.answer(4)
    sender.emit(2)
    assert sender.writes == [1, 3]
    sender.emit()
    assert sender.writes == [1, 3, 3]
    assert not sender.waits


async def test_where_few_are_expected_nobody_waits_while_the_server_has_nothing_to_do(sender) -> None:
    sender.emit(FEW)
    assert sender.writes == [1]
    sender.answer()
    assert sender.writes == [1, FEW - 1]
    assert not sender.waits


async def test_where_many_are_expected_they_are_waited_for_though_all_before_are_answered(sender) -> None:
    sender.emit(2 + FEW)
    sender.answer()
    assert sender.writes == [1]
    assert sender.waits
    sender.emit()
    assert sender.writes == [1, 2 + FEW]


async def test_while_more_keep_coming_they_are_held_for_so_long_and_no_longer(sender) -> None:
    sender.emit(5)
    for _ in range(MOST_TICKS - 1):
        sender.emit()
        sender.timer.tick()
        assert sender.writes == [1]
    sender.emit()
    sender.timer.tick()
    assert sender.writes == [1, 4 + MOST_TICKS]
    assert not sender.waits


async def test_however_many_come_no_more_than_so_many_are_expected(sender) -> None:
    sender.emit(1 + 3 * MOST_TOGETHER)
    assert sender.writes == [1] + [MOST_TOGETHER] * 3
    assert not sender.waits


async def test_what_leaves_with_something_else_is_held_no_longer(sender) -> None:
    sender.emit(2)
    assert sender.waits
    sender.leave()
    assert not sender.waits
    assert sender.writes == [1, 1]


async def test_what_the_library_took_along_is_waited_for_no_longer_once_it_is_answered(sender) -> None:
    sender.emit(2 + FEW)
    sender.answer()
    assert sender.waits
    sender.held = 0  # the library wrote it, without a word
    sender.answer(1 + FEW)
    while sender.waits:
        sender.timer.tick()
    for _ in range(3):
        sender.emit()
        assert not sender.waits
        sender.answer()


async def test_a_lost_connection_is_begun_anew_with_nobody_to_wait_for(sender) -> None:
    sender.emit(3)
    sender.held = 0
    sender.group.forget()
    sender.answer(3)  # each is told of its loss, which counts for nothing then
    assert not sender.waits
    sender.emit(2)
    sender.timer.tick()
    sender.answer(2)
    sender.emit()
    assert sender.writes[-1] == 1
    assert not sender.waits
