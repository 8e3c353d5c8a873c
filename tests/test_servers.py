"""The fixtures of this test suite, tested: what they give is real, empty and checked."""

import pytest
import redis
import redis.asyncio

from tests.servers import keys_without_ttl, real_servers


def test_there_is_a_real_server() -> None:
    """The suite never passes on fakeredis alone."""
    assert real_servers()


async def test_each_server_runs_scripts_and_blocks_on_streams(any_redis_client: redis.asyncio.Redis) -> None:
    """Scripts, streams with ids of our own and blocking reads work on every server, fakeredis too."""
    script = "return redis.call('XADD', KEYS[1], '1-0', 'event', ARGV[1])"
    assert await any_redis_client.eval(script, 1, "probe", "payload") == b"1-0"
    answer = await any_redis_client.xread({"probe": "0"}, block=1000)
    assert b"payload" in repr(answer).encode()


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_finds_an_empty_server(any_redis_url: str, turn: int) -> None:
    """What one test leaves, the next does not see."""
    with redis.Redis.from_url(any_redis_url) as client:
        assert client.dbsize() == 0
        client.set(f"left-by-turn-{turn}", "x")


@pytest.mark.leaves_keys
def test_a_session_key_without_a_ttl_is_found(any_redis_url: str) -> None:
    """The leak check names session keys that would stay for ever, and no other key."""
    with redis.Redis.from_url(any_redis_url) as client:
        client.set("decalage:{a}:state", "x", ex=60)
        client.set("decalage:{a}:target", "x")
        client.set("decalage:{workers}:bell:3", "x")
        client.set("decalage:{workers}:stats", "x")
        client.set("of-somebody-else", "x")
    assert keys_without_ttl(any_redis_url) == ["decalage:{a}:target"]
