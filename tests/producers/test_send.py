"""`decalage send` as a process on a real server; its publisher and subscriber have tests on all of them."""

import asyncio
import json
import re
import signal
from pathlib import Path

from redis.asyncio import Redis

from producers import Publisher, Subscriber
from protocol import (
    Error,
    InputTextAppend,
    InputTextFinalize,
    Session,
    SessionClose,
    SessionClosed,
    SessionCreate,
    WaitK,
    source_key,
)
from tests.conftest import one_redis
from tests.producers.commands import finish, run, start
from tests.producers.streams import publish, source_events, whole_stream

pytestmark = one_redis


def texts(events: list[object]) -> list[str]:
    """The texts appended."""
    return [event.text for event in events if isinstance(event, InputTextAppend)]


async def test_an_argument_is_a_session(redis_url: str, redis_client: Redis) -> None:
    """Created, said, finalized, closed; the session, its broker and how to follow it are told."""
    outcome = await run("send", redis_url, "Hello", "big world.", "--to", "de", "--wait-k", "2", "--redis", redis_url)
    assert (outcome.code, outcome.out) == (0, "")
    found = re.match(r"new session (\S+) at (\S+)\nfollow it with: decalage watch \1 --redis \2\n", outcome.err)
    assert found is not None
    assert outcome.err.endswith("sent 3 words in 4 events\n")
    first, *rest = await source_events(redis_client, found[1])
    assert isinstance(first, SessionCreate)
    assert (first.session.target_language, first.session.policy, first.seq) == ("de", WaitK(k=2), 1)
    assert rest == [InputTextAppend(seq=2, text="Hello big world."), InputTextFinalize(seq=3), SessionClose(seq=4)]


async def test_a_file_goes_word_by_word_at_a_pace(redis_url: str, redis_client: Redis, tmp_path: Path) -> None:
    """Each word is an event; a blank line ends a segment; --json tells what was sent."""
    path = tmp_path / "talk.txt"
    path.write_text("Title\n\nOne two.\n", encoding="utf-8")
    outcome = await run("send", redis_url, "--file", str(path), "--pace", "1000", "--session", "talk", "--json")
    fact = json.loads(outcome.out)
    assert fact == {
        "session": "talk",
        "broker": redis_url,
        "words": 3,
        "events": 7,
        "joined": False,
        "closed": True,
    }
    events = await source_events(redis_client, "talk")
    assert texts([*events]) == ["Title", "One", "two."]
    assert [type(event) for event in events[1:3]] == [InputTextAppend, InputTextFinalize]
    assert [type(event) for event in events[5:]] == [InputTextFinalize, SessionClose]


async def test_stdin_lines_go_out_as_they_come(redis_url: str, redis_client: Redis) -> None:
    """A line is in the stream while the standard input is still open."""
    process = await start("send", redis_url, "--session", "talk")
    if process.stdin is None:
        raise AssertionError("it is a pipe")
    process.stdin.write(b"first line\nsecond")
    entries: list[object] = []
    position = "0-0"
    while len(entries) < 2:
        reply = await redis_client.xread({source_key("talk"): position}, block=4000)
        entries += reply[0][1]  # type: ignore[index]
        position = entries[-1][0]  # type: ignore[index]
    assert texts([*await source_events(redis_client, "talk")]) == ["first line"]
    assert (await finish(process, " one\n")).code == 0
    assert texts([*await source_events(redis_client, "talk")]) == ["first line", "second one"]


async def test_a_session_that_is_there_is_joined_and_stays_open(redis_url: str, redis_client: Redis) -> None:
    """Numbers go on; options are not used, and that is said; --close closes."""
    async with Publisher(redis_url, "talk", Session()) as publisher:
        await publisher.create()
    outcome = await run("send", redis_url, "more", "--session", "talk", "--to", "de")
    assert outcome.err.startswith("joined session talk")
    assert "not used: --to" in outcome.err
    assert (await run("send", redis_url, "end", "--session", "talk", "--close")).code == 0
    events = await source_events(redis_client, "talk")
    assert events[1:] == [
        InputTextAppend(seq=2, text="more"),
        InputTextFinalize(seq=3),
        InputTextAppend(seq=4, text="end"),
        InputTextFinalize(seq=5),
        SessionClose(seq=6),
    ]
    outcome = await run("send", redis_url, "late", "--session", "talk")
    assert outcome.code == 1
    assert "decalage: error: input_text.append while the session is closing" in outcome.err


async def test_keep_open_leaves_a_new_session_open(redis_url: str, redis_client: Redis) -> None:
    """No `session.close` is sent."""
    await run("send", redis_url, "hello", "--session", "talk", "--keep-open")
    assert [type(event) for event in await source_events(redis_client, "talk")] == [
        SessionCreate,
        InputTextAppend,
        InputTextFinalize,
    ]


async def test_watching_shows_the_translation(redis_url: str, redis_client: Redis) -> None:
    """Text and summary as `decalage watch` shows them; with --json, what was sent comes first, then the events."""
    stream = whole_stream(2)
    await publish(redis_client, "text", stream)
    outcome = await run("send", redis_url, "two words", "--session", "text", "--watch")
    assert (outcome.code, outcome.out) == (0, " mot mot\n")
    await publish(redis_client, "json", stream)
    outcome = await run("send", redis_url, "two words", "--session", "json", "--watch", "--json")
    first, *rest = map(json.loads, outcome.out.splitlines())
    assert (first["session"], first["words"]) == ("json", 2)
    assert [event["seq"] for event in rest] == [1, 2, 3, 4, 5]


async def test_sending_ends_when_the_session_does(redis_url: str, redis_client: Redis) -> None:
    """Watched, a session that the worker ends is not spoken to any longer, though the input is still open."""
    await publish(redis_client, "talk", whole_stream(1))
    process = await start("send", redis_url, "--session", "talk", "--watch")
    assert await process.wait() == 0
    await finish(process)


async def test_ctrl_c_closes_the_session(redis_url: str, redis_client: Redis) -> None:
    """Exit code 130 without a traceback; the worker is told that no more will come."""
    process = await start("send", redis_url, "--session", "talk")
    await redis_client.xread({source_key("talk"): "0-0"}, block=4000)
    process.send_signal(signal.SIGINT)
    # The standard input stays open: the thread that reads it must not keep the process alive.
    assert await asyncio.wait_for(process.wait(), 20) == 130
    assert "Traceback" not in (await finish(process)).err
    assert isinstance((await source_events(redis_client, "talk"))[-1], SessionClose)


async def test_bad_input_is_one_line_and_code_1(redis_url: str, tmp_path: Path) -> None:
    """A bad option value, a missing file, an absent broker: each is named, and nothing is printed as a result."""
    for arguments, reason in (
        (("x", "--prompt", "p" * 5000), "session.prompt"),
        (("--file", str(tmp_path / "none")), "No such file"),
        (("x", "--file", "y"), "TEXT or --file"),
        (("x", "--keep-open", "--close"), "--keep-open and --close"),
        (("x", "--session", "no spaces"), "session id"),
        (("", " "), "expected words in TEXT, got none"),
    ):
        outcome = await run("send", redis_url, *arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert reason in outcome.err
        assert "Traceback" not in outcome.err
    outcome = await run("send", "redis://:secret@127.0.0.1:1", "x")
    assert outcome.code == 1
    assert "decalage: error: expected Redis at redis://127.0.0.1:1/0" in outcome.err
    assert "secret" not in outcome.err


async def test_no_words_at_all_is_an_error(redis_url: str, redis_client: Redis) -> None:
    """Unless the command says what it is for: to open a session, or to close one."""
    silent = await run("send", redis_url, "--session", "talk")
    assert (silent.code, silent.out) == (1, "")
    assert silent.err.endswith(
        "error: expected words in standard input, got none; to send none, say --keep-open or --close\n"
    )
    assert isinstance((await source_events(redis_client, "talk"))[-1], SessionClose)
    assert (await run("send", redis_url, "--session", "other", "--keep-open")).code == 0
    assert (await run("send", redis_url, "--session", "other", "--close")).code == 0
    assert isinstance((await source_events(redis_client, "other"))[-1], SessionClose)


async def test_what_was_sent_can_be_followed_later(redis_url: str, redis_client: Redis) -> None:
    """Watching a joined session begins behind the events that were there before."""
    async with Publisher(redis_url, "talk") as publisher:
        await publisher.create()
    stream = whole_stream(1)
    await publish(redis_client, "talk", stream[:2])
    process = await start("send", redis_url, "more", "--session", "talk", "--watch", "--json")
    async with Subscriber(redis_url, "talk") as events:
        assert await anext(events) == stream[0]
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    assert json.loads(await process.stdout.readline())["joined"]
    await publish(redis_client, "talk", stream[2:])
    outcome = await finish(process)
    assert [json.loads(line)["seq"] for line in outcome.out.splitlines()] == [3, 4]


async def test_refused_words_are_a_failure(redis_url: str, redis_client: Redis) -> None:
    """What the worker has refused is told, with exit code 1, whether the translation is watched or not."""
    refusal = Error(seq=2, code="segment_too_long", message="expected fewer words", source_id="7-0")
    closed = SessionClosed(seq=3, reason="closed", source_words=0, target_words=0)
    for name, options, told in (
        ("sent", [], "the worker refused 1 of the events, first: segment_too_long: expected fewer words"),
        ("seen", ["--watch"], "error segment_too_long: expected fewer words"),
    ):
        await publish(redis_client, name, [*whole_stream(0)[:1], refusal, closed])
        outcome = await run("send", redis_url, "one two three", "--session", name, *options)
        assert (outcome.code, told in outcome.err) == (1, True), outcome
    await publish(redis_client, "json", [*whole_stream(0)[:1], refusal])
    outcome = await run("send", redis_url, "one two three", "--session", "json", "--json")
    assert (outcome.code, json.loads(outcome.out.splitlines()[-1])["error"]["code"]) == (1, "segment_too_long")
