"""`decalage watch` as a process on real servers."""

import argparse
import signal

import pytest
from redis.asyncio import Redis

from producers.watch import event_number, seconds
from protocol import Error, SessionClosed, SessionCreate, decode_server, encode, source_key
from tests.producers.commands import finish, run, start
from tests.producers.streams import publish, whole_stream


async def test_the_translation_is_running_text(redis_url: str, redis_client: Redis) -> None:
    """Text on the standard output, a summary on the standard error, exit code 0."""
    await publish(redis_client, "talk", whole_stream(3))
    outcome = await run("watch", redis_url, "talk")
    assert (outcome.code, outcome.out) == (0, " mot mot mot\n")
    assert outcome.err == "session closed: 3 source words, 3 target words, average lagging 2.5 words\n"


async def test_json_lines_are_the_stream_after_n(redis_url: str, redis_client: Redis) -> None:
    """Every event behind number 2, one a line, and nothing else."""
    stream = whole_stream(3)
    await publish(redis_client, "talk", stream)
    outcome = await run("watch", redis_url, "talk", "--json", "--after", "2")
    assert [decode_server(line) for line in outcome.out.splitlines()] == stream[2:]
    assert (outcome.code, outcome.err) == (0, "")


async def test_without_id_the_newest_session_is_watched(redis_url: str, redis_client: Redis) -> None:
    """Its id is said; where there is no session, that is said, and what to do."""
    outcome = await run("watch", redis_url)
    assert outcome.code == 1
    assert "got none: open one with `decalage send`" in outcome.err
    await redis_client.xadd(source_key("talk"), {"event": encode(SessionCreate(seq=1))})
    await redis_client.expire(source_key("talk"), 100)
    await publish(redis_client, "talk", whole_stream(1))
    outcome = await run("watch", redis_url)
    assert (outcome.code, outcome.out) == (0, " mot\n")
    assert outcome.err.startswith("session talk\n")


async def test_a_failed_session_is_a_failed_command(redis_url: str, redis_client: Redis) -> None:
    """The error is printed with its code, and the exit code is 1."""
    failure = Error(seq=2, code="engine_error", message="out of memory")
    closed = SessionClosed(seq=3, reason="error", source_words=0, target_words=0)
    await publish(redis_client, "talk", [whole_stream(0)[0], failure, closed])
    outcome = await run("watch", redis_url, "talk")
    assert outcome.code == 1
    assert outcome.err.startswith("error engine_error: out of memory\n")


async def test_silence_and_bad_names_are_one_line(redis_url: str) -> None:
    """No traceback: the error, and exit code 1."""
    outcome = await run("watch", redis_url, "nobody", "--timeout", "0.1")
    assert outcome.code == 1
    assert outcome.err.startswith("decalage: error: expected an event of session nobody")
    outcome = await run("watch", redis_url, "no spaces")
    assert outcome.code == 1
    assert outcome.err.startswith("decalage: error: expected a session id")
    outcome = await run("watch", "redis://127.0.0.1:1", "talk")
    assert outcome.code == 1
    assert outcome.err.startswith("decalage: error: expected Redis at redis://127.0.0.1:1/0")
    assert outcome.err.count("\n") == 1


async def test_ctrl_c_ends_it_quietly(redis_url: str, redis_client: Redis) -> None:
    """Exit code 130, no traceback, and what was there has been shown at once."""
    await publish(redis_client, "talk", whole_stream(2)[:3])
    process = await start("watch", redis_url, "talk")
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    assert await process.stdout.readexactly(8) == b" mot mot"
    process.send_signal(signal.SIGINT)
    outcome = await finish(process)
    assert (outcome.code, outcome.err) == (130, "\n")


async def test_a_closed_pipe_ends_it_quietly(redis_url: str, redis_client: Redis) -> None:
    """As with `| head -1`: no traceback."""
    stream = whole_stream(300)
    await publish(redis_client, "talk", stream[:1])
    process = await start("watch", redis_url, "talk", "--json")
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # the only way to close our end early
    await publish(redis_client, "talk", stream[1:])
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "²"])
def test_event_numbers_are_whole(text: str) -> None:
    """Anything else is refused by the parser."""
    assert event_number("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        event_number(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_seconds_are_positive(text: str) -> None:
    """Anything else is refused by the parser."""
    assert seconds("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        seconds(text)
