"""What is said again only after a time."""

from walnatsd.observe.sparingly import Sparingly


def test_the_same_is_said_again_only_after_the_period_and_nothing_else_waits_for_it() -> None:
    now = [0.0]
    sparingly = Sparingly(60.0, lambda: now[0])
    assert sparingly.may_say("one")
    assert sparingly.may_say("other")
    now[0] = 59.9
    assert not sparingly.may_say("one")
    now[0] = 60.0
    assert sparingly.may_say("one")
    assert not sparingly.may_say("one")


def test_what_was_said_long_ago_is_forgotten() -> None:
    now = [0.0]
    sparingly = Sparingly(60.0, lambda: now[0])
    for number in range(1000):
        now[0] = number * 60.0
        assert sparingly.may_say(number)
    assert len(sparingly._said_at) == 1
