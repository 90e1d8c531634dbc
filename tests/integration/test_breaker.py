"""The breaker at work: an actor that is not there is left alone, and finds its messages when it is back."""

import itertools
import time

from aiohttp import web

from support.actors import Gauges, fill, handed_over, one_actor, unsettled
from support.daemon import Sidecar, running
from support.desk import Desk
from support.receiver import Received, answers
from support.receiver import receiver as receiver_beside
from support.waiting import until
from walnatsd.dispatch import actor_loop


async def _settled(jetstream) -> bool:
    return await unsettled(jetstream) == 0


async def _is_shut(sidecar: Sidecar) -> bool:
    return await Gauges(sidecar).breaker_is_open()


async def _nobody_asks(jetstream) -> bool:
    return not (await jetstream.consumer_info("counts", "print")).num_waiting


async def test_while_it_is_open_nothing_is_pulled_and_nothing_that_was_asked_for_stays_asked(nats, receiver) -> None:
    await receiver.down()
    config = one_actor(nats, receiver, breaker={"consecutive": 3, "open_for": 60, "max_open_for": 60})
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 50)
        await until(lambda: _is_shut(sidecar))
        assert await Gauges(sidecar).gate() == "breaker-open"
        await until(lambda: _nobody_asks(jetstream))
        before = await handed_over(jetstream)
        assert before <= 20
        stranger = await jetstream.pull_subscribe_bind("print", "counts")
        [message] = await stranger.fetch(1)  # who asked earlier would have been served before
        await message.nak()
        assert await handed_over(jetstream) == before + 1
        assert await unsettled(jetstream) == 50


async def test_an_idle_actor_takes_back_what_it_asked_for_when_the_breaker_opens(nats, receiver) -> None:
    config = one_actor(nats, receiver, breaker={"consecutive": 1, "open_for": 60, "max_open_for": 60})
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await sidecar.emit("counts", "1")
        await until(lambda: _settled(jetstream))
        assert not await _nobody_asks(jetstream)
        await receiver.down()
        await sidecar.emit("counts", "2")
        await until(lambda: _is_shut(sidecar))
        await until(lambda: _nobody_asks(jetstream))


async def test_a_share_of_unavailable_answers_opens_it_though_there_are_good_ones_between(nats, receiver) -> None:
    receiver.answer = answers(502, 502, 204, 502, then=204)
    breaker = {"consecutive": 100, "min_attempts": 4, "failure_ratio": 0.7, "open_for": 60, "max_open_for": 60}
    config = one_actor(nats, receiver, max_jobs=1, breaker=breaker)
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 20)
        await until(lambda: _is_shut(sidecar))
        await until(lambda: _nobody_asks(jetstream))
        assert len(receiver.received) == 4
        assert await unsettled(jetstream) == 19


async def test_errors_of_the_application_do_not_open_it(nats, receiver) -> None:
    receiver.answer = answers(*[500] * 40)
    config = one_actor(nats, receiver, breaker={"consecutive": 1, "min_attempts": 1, "failure_ratio": 0.1})
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 10)
        await until(lambda: _settled(jetstream))
        assert not await _is_shut(sidecar)
    assert len(receiver.received) == 50


async def test_each_failed_probe_doubles_the_time_that_the_actor_is_left_alone(nats, receiver) -> None:
    times: list[float] = []

    async def away(_received: Received) -> web.StreamResponse:
        times.append(time.monotonic())
        return web.Response(status=502 if len(times) <= 5 else 204)

    receiver.answer = away
    breaker = {"consecutive": 1, "open_for": 0.2, "max_open_for": 0.8}
    async with running(one_actor(nats, receiver, breaker=breaker)), nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"1")
        await until(lambda: _settled(jetstream))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= least - 0.01 for gap, least in zip(gaps, (0.2, 0.4, 0.8, 0.8, 0.8), strict=True)), gaps


async def test_half_open_one_attempt_at_a_time_looks_until_three_in_a_row_found_it(nats, receiver) -> None:
    await receiver.down()
    config = one_actor(nats, receiver, breaker={"consecutive": 1, "open_for": 0.3})
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 30)
        await until(lambda: _is_shut(sidecar))
        desk = Desk(receiver)
        await receiver.up()
        for _ in range(3):
            await until(lambda: len(desk.waiting) == 1)
            assert await Gauges(sidecar).gate() == "half-open"
            await desk.answer_all(204, when_there_are=1)
        assert receiver.most_in_progress == 1
        await until(lambda: len(desk.waiting) > 1)
        assert await Gauges(sidecar).gate() == "open"
        desk.open()
        await until(lambda: _settled(jetstream))


async def test_what_began_before_the_outage_is_no_sign_that_the_actor_is_back(nats, receiver) -> None:
    """Attempts that hang when the actor goes away end in timeouts while it is half open: these closed it."""
    desk = Desk(receiver)
    config = one_actor(
        nats, receiver, max_jobs=4, job_timeout=2.0, breaker={"consecutive": 1, "open_for": 0.1, "max_open_for": 60}
    )
    async with running(config) as sidecar, nats.jetstream() as jetstream:
        await fill(jetstream, "counts", 30)
        await until(lambda: len(desk.waiting) == 4)
        desk.answer_one(502)
        await until(lambda: _is_shut(sidecar))
        await until(lambda: len(desk.waiting) == 4)  # three from before, and one looks
        assert await Gauges(sidecar).gate() == "half-open"
        failed = 'walnatsd_attempts_total{actor="print",event="counts",outcome="failed"}'

        async def three_have_timed_out() -> bool:
            return (await sidecar.metrics()).get(failed, 0) >= 3

        await until(three_have_timed_out)
        assert await Gauges(sidecar).gate() == "half-open"
        desk.open()
        await until(lambda: _settled(jetstream))


async def test_with_wait_for_no_message_is_used_to_see_if_the_service_is_back(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(actor_loop, "PROBE_INTERVAL_S", 0.05)
    async with receiver_beside() as health:
        breaker = {"consecutive": 2, "open_for": 0.1, "max_open_for": 0.2}
        config = one_actor(nats, receiver, wait_for=health.url, breaker=breaker)
        async with running(config) as sidecar, nats.jetstream() as jetstream:
            await sidecar.emit("counts", "1")
            await until(lambda: _settled(jetstream))

            health.answer = answers(then=503)
            receiver.answer = answers(then=502)
            await fill(jetstream, "counts", 20)
            await until(lambda: _is_shut(sidecar))
            await until(lambda: _nobody_asks(jetstream))
            asked, attempts = len(health.received), len(receiver.received)
            assert attempts <= 1 + 4
            await health.wait_for(asked + 5)
            assert len(receiver.received) == attempts
            assert await Gauges(sidecar).gate() in {"breaker-open", "waiting-for-probe"}

            receiver.answer = health.answer = answers(then=200)
            await until(lambda: _settled(jetstream))
            assert await Gauges(sidecar).gate() == "open"


async def test_the_gauges_of_a_breaker_follow_the_time_though_no_message_comes(nats, receiver) -> None:
    """The gauge stayed at 1 until the next attempt, so an idle actor looked broken for ever."""
    receiver.answer = answers(502)
    config = one_actor(nats, receiver, retry={"delays": [60]}, breaker={"consecutive": 1, "open_for": 0.3})
    async with running(config) as sidecar:
        await sidecar.emit("counts", "1")
        await until(lambda: _is_shut(sidecar))

        async def is_half_open() -> bool:
            return await Gauges(sidecar).gate() == "half-open"

        await until(is_half_open)
        assert not await _is_shut(sidecar)
