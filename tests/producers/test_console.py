"""What the commands share: exit codes and hints."""

import asyncio

import pytest
from redis.asyncio import Redis

from producers import BrokerRefused, Subscriber, console
from producers.console import BROKEN_PIPE, FAILED, follow, run_command, worker_hint
from producers.transcript import Transcript
from protocol import InvalidEvent
from tests.producers.streams import publish, whole_stream


async def result(code: int, failure: Exception | None = None) -> int:
    """A command that returns or raises."""
    if failure:
        raise failure
    return code


def test_exit_codes_and_one_line_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's own code; a failure that is expected is one line and code 1; a bug is not hidden."""
    assert run_command(result(7)) == 7
    for failure in (BrokerRefused("redis://h", "no"), InvalidEvent("bad"), TimeoutError("late")):
        assert run_command(result(0, failure)) == FAILED
        assert capsys.readouterr().err == f"decalage: error: {failure}\n"
    with pytest.raises(ZeroDivisionError):
        run_command(result(0, ZeroDivisionError()))
    assert BROKEN_PIPE > 128


async def test_silence_brings_one_hint(
    redis_url: str, redis_client: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who watches a session that nobody serves is told how to start a worker; when events come, they are shown."""
    monkeypatch.setattr(console, "HINT_AFTER_S", 0.0)
    hinted = asyncio.Event()

    def say(line: str) -> None:
        print(line)
        hinted.set()

    monkeypatch.setattr(console, "say", say)
    async with Subscriber(redis_url, "talk") as events:
        following = asyncio.ensure_future(follow(events, Transcript(), hint=worker_hint(events.address)))
        await hinted.wait()
        await publish(redis_client, "talk", whole_stream(1))
        assert await following == 0
    out = capsys.readouterr().out
    assert out.count("decalage serve") == 1
    assert out.endswith(" mot\n")
    assert redis_url in out
