"""When a worker says that it is alive, and that it is ready."""

from tests.producers.proxy import Proxy
from tests.worker.app.conftest import FINALIZE, Raw, Running, append, create, until
from worker.app.engine import Engine
from worker.app.health import Health
from worker.io.health import Condition

SOUND = Condition()


async def test_redis_that_is_gone_pauses_everything_and_nothing_is_lost(
    raw: Raw, running: Running, redis_url: str
) -> None:
    """The worker is unready, though alive, while Redis is away; then it goes on by itself, in the middle of a word."""
    async with Proxy(redis_url) as proxy, running(redis=proxy.url, lease_ms=500) as worker:
        await raw.say("talk", create(), append("Please close the"))
        await raw.hear("talk", "output_text.delta")
        await until(lambda: worker.health.condition() == SOUND)
        await proxy.down()
        await raw.say("talk", append("window before you leave the room."), FINALIZE)
        await until(lambda: bool(worker.health.condition().unready))
        assert not worker.health.condition().dead
        assert not worker.shards.held
        await proxy.up()
        heard = await raw.hear("talk")
        await until(lambda: worker.health.condition() == SOUND)
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert heard[-1]["source_words"] == 9
    assert worker.health.condition().unready[0] == "draining"


async def test_a_worker_may_begin_before_its_redis(raw: Raw, redis_url: str, running: Running) -> None:
    """It waits for it, and then serves."""
    async with Proxy(redis_url) as proxy:
        await proxy.down()
        async with running(redis=proxy.url):
            await proxy.up()
            await raw.say("talk", create(), append("Thank you."), FINALIZE)
            assert (await raw.hear("talk"))[-1]["text"] == "Merci."


async def test_an_engine_whose_thread_has_ended_is_dead(running: Running) -> None:
    """Only a restart will help."""
    ended = await Engine.start("starter-draft")
    async with running() as worker:
        health = Health(ended, worker.shards)
        assert not health.condition().dead
        ended.stop()
        assert health.condition().dead == ("the engine's thread has ended",)
