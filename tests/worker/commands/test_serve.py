"""`decalage serve`: its options, and what keeps it from starting."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import structlog
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.producers.proxy import Proxy
from tests.worker.commands.conftest import Decalage
from worker.app import serve as app
from worker.app.config import Settings
from worker.io.client import RedisUnreachable, connect


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_options_win_over_variables(decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is given counts, else its variable, else the default."""
    seen: list[Settings] = []

    async def serve(settings: Settings) -> None:
        seen.append(settings)

    monkeypatch.setattr(app, "serve", serve)
    monkeypatch.setenv("DECALAGE_LEASE_MS", "700")
    monkeypatch.setenv("DECALAGE_MAX_SESSIONS", "5")
    monkeypatch.setenv("DECALAGE_KV_BITS", "4")
    assert decalage("serve", "--redis", "redis://h", "--max-sessions", "6", "--metrics-port", "-1").status == 0
    assert seen == [Settings(redis="redis://h", lease_ms=700, max_sessions=6, metrics_port=-1, kv_bits=4)]


@pytest.mark.parametrize(
    "option", ["--max-sessions", "--max-batch-size", "--max-draft-tokens", "--lease-ms", "--sweep-ms"]
)
def test_no_knob_takes_zero(option: str, decalage: Decalage) -> None:
    """A number that no worker could run with is a usage error."""
    assert decalage("serve", option, "0").status == 2


@pytest.mark.parametrize(("variable", "value"), [("DECALAGE_MAX_SESSIONS", "many"), ("DECALAGE_KV_BITS", "5")])
def test_a_wrong_variable_is_named(
    variable: str, value: str, decalage: Decalage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable and what it holds."""
    monkeypatch.setenv(variable, value)
    ran = decalage("serve", "--redis", "redis://127.0.0.1:1")
    assert ran.status == 1
    assert f"{variable}={value!r}" in ran.err


@pytest.mark.parametrize(("url", "part"), [("redis://127.0.0.1:1",) * 2, ("nonsense", "expected redis://HOST:PORT/DB")])
def test_no_redis_there(url: str, part: str, decalage: Decalage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that does not answer, or a URL that is none, is one line; what may hold a password is not repeated."""
    monkeypatch.setenv("DECALAGE_REDIS_WAIT_MS", "0")
    ran = decalage("serve", "--redis", url, "--metrics-port", "-1")
    assert ran.status == 1
    assert ran.err.startswith("decalage: error: ")
    assert part in ran.err
    assert ran.err.count("\n") == 1


async def test_a_start_waits_for_redis_and_says_so(redis_url: str) -> None:
    """Its Redis comes up later, as the services of a host do; meanwhile one warning names it, without its password."""
    up, said = Proxy(redis_url), []
    async with up:  # for a port that is free
        url = up.url.replace("redis://", "redis://:s3cret@")
    with capture_logs() as logs:
        waiting = asyncio.create_task(app._await_redis(connect(url), 30))
        while not (said := [log for log in logs if log["event"] == "waiting_for_redis"]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        waiting = asyncio.create_task(app._await_redis(connect(up.url), 30))
        async with up:
            assert "." in await waiting
    assert up.url in said[0]["reason"]
    assert "s3cret" not in str(logs)


async def test_who_refuses_the_login_is_not_waited_for(redis_url: str) -> None:
    """A database that is not there, or a password where none is asked for, does not come with time."""
    for url in (redis_url.removesuffix("/0") + "/99", redis_url.replace("redis://", "redis://nobody:x@")):
        with pytest.raises(RedisUnreachable, match=r"refuses this login: (SELECT|AUTH): "):
            await app._await_redis(connect(url), 30)


@pytest.mark.parametrize(
    ("policy", "warns"),
    [("noeviction", False), ("volatile-lru", True), ("allkeys-random", True), ("volatile-ttl", True)],
)
async def test_a_redis_that_may_drop_keys_is_warned_about(
    policy: str, warns: bool, redis_url: str, redis_client: Redis
) -> None:
    """The warning names the policy, and the one to choose."""
    await redis_client.config_set("maxmemory-policy", policy)
    try:
        with capture_logs() as logs:
            await app._await_redis(connect(redis_url), 0)
    finally:
        await redis_client.config_set("maxmemory-policy", "noeviction")
    assert [policy in log["reason"] and "noeviction" in log["reason"] for log in logs] == [True] * warns


def test_the_port_of_the_metrics_is_taken(decalage: Decalage, redis_url: str) -> None:
    """Another program on the metrics' port: the error names it and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = decalage("serve", "--redis", redis_url, "--metrics-port", port)
    assert ran.status == 1
    assert f"127.0.0.1:{port}" in ran.err
    assert "--metrics-port" in ran.err


def test_an_unknown_model(decalage: Decalage, redis_url: str) -> None:
    """A model that is not there ends the worker before it takes a session."""
    ran = decalage("serve", "--redis", redis_url, "--metrics-port", "-1", "--model", "nope", "--log-level", "error")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "no model directory or GGUF file 'nope'" in ran.err
