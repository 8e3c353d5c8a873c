"""A worker on a real Redis server with the shipped model: what comes in, what comes out, and what stays apart."""

import asyncio
import contextlib
import itertools
import time

import msgspec
import pytest
import redis.exceptions
from prometheus_client import generate_latest

from protocol import ClientEvent, ServerEvent, Session, SessionClose, SessionCreate, encode
from protocol.events import InputTextAppend, InputTextFinalize
from tests.worker.app.conftest import CLOSE, FINALIZE, Event, Raw, Running, append, create, until, untimed
from worker.app.engine import Engine
from worker.app.worker import Worker
from worker.core import scheduler
from worker.core import session as machine
from worker.core.state import State

TEXT = "Please close the window before you leave the room."


_numbers = itertools.count(1_000_000)


async def alone(engine: Engine, *events: ClientEvent) -> list[Event]:
    """What the core and the engine make of these events, with no Redis between them."""
    state = State(number=next(_numbers))
    out: list[ServerEvent] = []
    for event in events:
        state, said = machine.step(state, event, now_ms=1, vocabulary=engine.vocabulary, model="starter")
        out += said
        while (row := scheduler.wants(state, scheduler.Budget())) is not None:
            (sampled,), _ = await engine.run([row], ())
            state, said, _ = machine.update(state, row, sampled, now_ms=1, vocabulary=engine.vocabulary)
            out += said
    await engine.run([], [(state.number, index) for index in range(state.num_segments)])
    return [msgspec.json.decode(encode(event)) for event in out]


def value(worker: Worker, name: str) -> float:
    """What a metric of the worker stands at."""
    return worker.metrics.registry.get_sample_value(name) or 0.0


async def test_a_session_through_redis_gives_what_core_and_engine_give(
    raw: Raw, running: Running, engine: Engine
) -> None:
    """Law: through Redis come the events that core and engine give alone: words, tokens, source_words_read and
    seq are those of the core alone.
    """
    spec = Session(target_language="fr")
    said = [InputTextAppend(text=word) for word in TEXT.split()]
    expected = await alone(engine, SessionCreate(session=spec), *said, InputTextFinalize(), SessionClose())
    async with running():
        await raw.say("talk", create(), *(append(word) for word in TEXT.split()), FINALIZE, CLOSE)
        heard = await raw.hear("talk", "session.closed")
    assert untimed(heard) == untimed(expected)
    assert "".join(e["text"] for e in heard if e["type"] == "output_text.delta") == heard[-2]["text"]


async def test_the_first_word_comes_after_k_words_and_no_sooner(raw: Raw, running: Running) -> None:
    """With wait-3, two words bring nothing; the third brings the first target word while the sentence goes on."""
    async with running() as worker:
        await raw.say("talk", create(), append("I do"))
        await raw.hear("talk", "session.created")
        handle = worker.table.get("talk")
        assert handle is not None
        await until(lambda: handle.state.source_words == 2)
        assert scheduler.wants(handle.state, scheduler.Budget()) is None
        await raw.say("talk", append("not"))
        heard = await raw.hear("talk", "output_text.delta")
    assert heard[-1]["source_words_read"] == 3


async def test_sessions_do_not_mix(raw: Raw, running: Running, engine: Engine) -> None:
    """Sixteen sessions of unequal length, both languages and several k at once give what each gives alone."""
    texts = [" ".join(TEXT.split()[: 3 + i % 7]) for i in range(16)]
    options = [
        {"target_language": "fr" if i % 2 else "de", "policy": {"type": "wait-k", "k": 1 + i % 5}} for i in range(16)
    ]
    async with running():
        await asyncio.gather(
            *(raw.say(f"s{i}", create(**options[i]), *map(append, texts[i].split()), FINALIZE) for i in range(16))
        )
        heard = await asyncio.gather(*(raw.hear(f"s{i}") for i in range(16)))
        again = []
        for i in range(16):
            await raw.say(f"alone{i}", create(**options[i]), *map(append, texts[i].split()), FINALIZE)
            again.append(await raw.hear(f"alone{i}"))
    for together, alone_ in zip(heard, again, strict=True):
        assert untimed(together) == untimed(alone_)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("{", "malformed_event"),
        ('{"type":"nonsense"}', "unknown_event_type"),
        ("x" * 70_000, "event_too_large"),
        ({"type": "input_text.append", "text": "a" * 9_000}, "invalid_event"),
        (append("word", seq=9), "sequence_gap"),
        (create(), "session_exists"),
        ({"type": "session.update", "session": {"policy": {"type": "wait-k", "k": 0}}}, "invalid_event"),
        ({"type": "session.update", "session": {"target_language": "es"}}, "unsupported_language"),
        ({"type": "session.update", "session": {"prompt": "Summarize this:"}}, "unsupported_option"),
        (append("word " * 600), "segment_too_long"),
    ],
)
async def test_a_bad_event_disturbs_nobody_else(raw: Raw, running: Running, bad: Event | str, code: str) -> None:
    """The session gets an error event that names its entry and goes on; the other session's output is unchanged."""
    async with running():
        await raw.say("good", create(), append(TEXT))
        await raw.say("bad", create(), append("I do not", seq=1), bad, append("know.", seq=2), FINALIZE)
        await raw.say("good", FINALIZE)
        heard = await raw.hear("bad")
        other = await raw.hear("good")
    errors = [event for event in heard if event["type"] == "error"]
    assert [error["code"] for error in errors] == [code]
    assert errors[0]["message"]
    assert errors[0]["source_id"]
    assert heard[-1]["text"] == "Je ne sais pas."
    assert all(event["type"] != "error" for event in other)


async def test_a_gap_names_the_number_that_is_missing_and_repetition_is_ignored(raw: Raw, running: Running) -> None:
    """seq 1 2 2 4: the second 2 is counted and ignored, 4 is refused; 3 and 4 sent again go through."""
    async with running() as worker:
        await raw.say(
            "talk", create(), append("I", seq=1), append("do", seq=2), append("do", seq=2), append("know", seq=4)
        )
        refused = (await raw.hear("talk", "error"))[-1]
        await raw.say("talk", append("not", seq=3), append("know.", seq=4), FINALIZE)
        heard = await raw.hear("talk")
        handle = worker.table.get("talk")
        assert handle is not None
        assert handle.state.duplicates == 1
    assert (refused["code"], refused["expected_seq"]) == ("sequence_gap", 3)
    assert heard[-1]["source_words"] == 4


async def test_words_for_no_session_and_for_a_closed_one_are_refused(raw: Raw, running: Running) -> None:
    """session_not_created and session_closed arrive on the target stream, after a restart too."""
    async with running():
        await raw.say("none", append("word"))
        assert (await raw.hear("none", "error"))[-1]["code"] == "session_not_created"
        await raw.say("shut", create(), CLOSE)
        await raw.hear("shut", "session.closed")
        await raw.say("shut", append("word"))
        assert (await raw.hear("shut", "error"))[-1]["code"] == "session_closed"
    async with running():
        await raw.say("shut", append("word"))
        assert [e["code"] for e in (await raw.hear("shut", "error", count=2))[-2:]] == ["session_closed"] * 2
        await raw.say("none", create(), append("Hello!"), FINALIZE)
        assert (await raw.hear("none"))[-1]["type"] == "segment.done"


async def test_several_segments_and_an_update_in_between(raw: Raw, running: Running) -> None:
    """Utterances follow one another; a changed language counts from the next one on."""
    async with running():
        await raw.say("talk", create(), append("Good morning."), FINALIZE)
        await raw.say("talk", {"type": "session.update", "session": {"target_language": "de"}})
        await raw.say("talk", append("Good morning."), FINALIZE, FINALIZE, CLOSE)
        heard = await raw.hear("talk", "session.closed")
    done = [event for event in heard if event["type"] == "segment.done"]
    assert [(e["segment"], e["text"], e["finish_reason"]) for e in done] == [
        (0, "Bonjour.", "stop"),
        (1, "Guten Morgen.", "stop"),
        (2, "", "empty"),
    ]


async def test_an_idle_session_is_flushed_and_closed(raw: Raw, running: Running) -> None:
    """Silence for idle_timeout_ms ends the session; what had been said is translated first."""
    async with running():
        await raw.say("talk", create(limits={"idle_timeout_ms": 1_000}), append("Thank you."))
        heard = await raw.hear("talk", "session.closed")
    assert heard[-2]["type"] == "segment.done"
    assert heard[-2]["text"]
    assert heard[-1]["reason"] == "idle"


async def test_a_full_worker_says_so(raw: Raw, running: Running) -> None:
    """session.create beyond max_sessions is refused with worker_full; it can be sent again once there is room."""
    async with running(max_sessions=1):
        await raw.say("first", create())
        await raw.hear("first", "session.created")
        await raw.say("second", create())
        assert (await raw.hear("second", "error"))[-1]["code"] == "worker_full"
        await raw.say("first", CLOSE)
        await raw.hear("first", "session.closed")
        await raw.say("second", create())
        await raw.hear("second", "session.created")


async def test_a_session_goes_on_under_the_next_worker(raw: Raw, running: Running) -> None:
    """A worker that drains leaves its sessions open; the next one replays the log and goes on behind the last word."""
    words = TEXT.split()
    async with running():
        await raw.say("whole", create(), *map(append, words), FINALIZE)
        whole = await raw.hear("whole")
        await raw.say("split", create(), *map(append, words[:5]))
        await raw.hear("split", "output_text.delta", count=3)
    async with running():
        await raw.say("split", *map(append, words[5:]), FINALIZE)
        split = await raw.hear("split")
    assert untimed(split) == untimed(whole)


async def test_a_fenced_worker_publishes_nothing(raw: Raw, running: Running) -> None:
    """Once another owner has raised the epoch, the old one's commit is refused and it forgets the session."""
    async with running() as worker:
        await raw.say("talk", create())
        await raw.hear("talk", "session.created")
        await raw.client.hincrby("decalage:{talk}:state", "epoch", 1)
        handle = worker.table.get("talk")
        await raw.say("talk", append(TEXT), FINALIZE)
        await until(lambda: worker.table.get("talk") is not handle)
        assert value(worker, "decalage_fenced_commits_total") == 1
        # Its lease still says that the session is this worker's: it takes it again, and nothing is lost or doubled.
        heard = await raw.hear("talk")
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))


async def test_redis_that_restarts_is_waited_for(raw: Raw, running: Running) -> None:
    """All connections are cut in the middle of a session; it goes on and nothing is lost."""
    async with running():
        await raw.say("talk", create(), append("Please close the"))
        await raw.hear("talk", "output_text.delta")
        await raw.client.client_kill_filter(_type="normal", skipme=True)
        await raw.client.script_flush()
        await raw.say("talk", append("window."), FINALIZE)
        heard = await raw.hear("talk")
    assert heard[-1]["source_words"] == 4


async def test_figures_are_kept(raw: Raw, running: Running) -> None:
    """Metrics and the stats stream tell what has happened; no metric has a session in its labels."""
    async with running(stats_ms=1) as worker:
        await raw.say("talk", create(), append(TEXT), FINALIZE)
        heard = await raw.hear("talk")
        words = sum(event["type"] == "output_text.delta" for event in heard)
        await until(lambda: value(worker, "decalage_target_words_total") == words)
        page = generate_latest(worker.metrics.registry).decode()
        stats = await raw.client.xread({"decalage:{workers}:stats": "0-0"}, block=5_000)
    assert stats
    assert f"decalage_target_words_total {float(words)}" in page
    assert "decalage_source_words_total 9.0" in page
    assert f"decalage_word_delay_seconds_count {float(words)}" in page
    assert "decalage_first_word_delay_seconds_count 1.0" in page
    assert "decalage_kv_bytes" in page
    assert "talk" not in page


async def test_a_worker_is_configured_while_it_runs(raw: Raw, running: Running) -> None:
    """A worker.configure event on the configure stream changes the budget; a broken one changes nothing."""
    async with running() as worker:
        await raw.say("talk", create())
        await raw.hear("talk", "session.created")
        for data in ("{", '{"type":"worker.configure","max_batch_size":7,"max_sessions":3,"use_speculative":false}'):
            await raw.client.xadd("decalage:{workers}:configure", {"event": data})
        await until(lambda: worker.sessions.budget.max_rows == 7)
        assert (worker.ingest.max_sessions, worker.sessions.budget.max_draft_tokens) == (3, 0)
        again = '{"type":"worker.configure","use_speculative":true,"max_draft_tokens":5}'
        await raw.client.xadd("decalage:{workers}:configure", {"event": again})
        await until(lambda: worker.sessions.budget.max_draft_tokens == 5)
        assert worker.sessions.budget.max_rows == 7


async def test_what_was_turned_away_stays_away_after_a_restart(raw: Raw, running: Running) -> None:
    """Words refused for a full backlog are not in the translation of the worker that replays the log."""
    limits = {"max_backlog_words": 4}
    async with running():
        await raw.say("talk", create(limits=limits, policy={"type": "wait-k", "k": 50}), append("I do not"))
        await raw.say("talk", append("want to go home"))
        assert (await raw.hear("talk", "error"))[-1]["code"] == "backlog_full"
    async with running():
        await raw.say("talk", append("know."), CLOSE)
        heard = await raw.hear("talk", "session.closed")
    assert heard[-2]["text"] == "Je ne sais pas."
    assert heard[-1]["source_words"] == 4
    assert heard[-1]["target_words"] == 4


async def healthy(raw: Raw) -> None:
    """A session of its own goes all the way."""
    name = f"healthy-{next(_numbers)}"
    await raw.say(name, create(), append("Thank you."), FINALIZE)
    assert (await raw.hear(name))[-1]["text"] == "Merci."


@pytest.mark.leaves_keys
@pytest.mark.parametrize(
    "command",
    [
        ("SET", "decalage:{bad}:state", "x"),
        ("HSET", "decalage:{bad}:state", "status", "bogus"),
        ("HSET", "decalage:{bad}:state", "seq", "many"),
        ("SET", "decalage:{bad}:target", "x"),
        ("SET", "decalage:{bad}:source", "x"),
        ("XADD", "decalage:{bad}:target", "*", "event", '{"type":"foo"}'),
        ("XADD", "decalage:{bad}:target", "*", "foo", "bar"),
    ],
)
async def test_foreign_keys_harm_their_own_session_only(raw: Raw, running: Running, command: tuple[str, ...]) -> None:
    """Whatever somebody has put under a session's keys, other sessions go on, before and after a restart."""
    for _ in range(2):
        async with running():
            await raw.client.execute_command(*command)  # type: ignore[no-untyped-call]
            with contextlib.suppress(redis.exceptions.ResponseError):
                await raw.say("bad", create(), append(TEXT))
            await healthy(raw)
            await healthy(raw)
        await raw.client.delete("decalage:{bad}:state")


async def test_a_foreign_entry_in_the_target_does_not_stop_a_takeover(raw: Raw, running: Running) -> None:
    """The next worker replays a session whose target stream holds what no worker wrote, and tells that it
    cannot go on.
    """
    async with running():
        await raw.say("talk", create(), append("Please close the window"))
        await raw.hear("talk", "output_text.delta", count=2)
    await raw.client.xadd("decalage:{talk}:target", {"foo": "bar"})
    async with running():
        await raw.say("talk", append("now."), FINALIZE)
        await healthy(raw)


async def test_a_session_whose_log_is_gone_says_so(raw: Raw, running: Running) -> None:
    """Its source stream deleted, the next worker publishes an error and closes it; nothing waits for ever."""
    async with running():
        await raw.say("talk", create(), append(TEXT))
        await raw.hear("talk", "output_text.delta", count=3)
    await raw.client.delete("decalage:{talk}:source")
    await raw.say("talk", append("more"))
    async with running():
        heard = await raw.hear("talk", "session.closed")
    told = [event for event in heard if event["type"] in ("error", "session.closed")]
    assert [event.get("code") or event["reason"] for event in told[:2]] == ["internal_error", "error"]


async def test_redis_that_comes_back_with_older_data_gets_the_lost_words_again(raw: Raw, running: Running) -> None:
    """A server restored to an earlier state: what it has forgotten is published again, under the same numbers."""
    keys = [f"decalage:{{talk}}:{name}" for name in ("source", "target", "state")]
    async with running():
        await raw.say("whole", create(), append(TEXT), FINALIZE)
        whole = await raw.hear("whole")
        await raw.say("talk", create(), append("Please close the"))
        await raw.hear("talk", "output_text.delta")
        saved = [await raw.client.dump(key) for key in keys]
        await raw.say("talk", append("window before"))
        await raw.hear("talk", "output_text.delta", count=3)
        for key, data in zip(keys, saved, strict=True):
            assert data is not None
            await raw.client.restore(key, 100_000, data, replace=True)
        await raw.say("talk", append("window before"), append("you leave the room."), FINALIZE)
        heard = await raw.hear("talk")
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert [e["word"] for e in heard if "word" in e] == [e["word"] for e in whole if "word" in e]


async def test_an_old_log_is_no_idle_session(raw: Raw, running: Running) -> None:
    """A session created long before a worker came is as fresh as its first reading."""
    stamp = int(time.time() * 1000) - 400_000
    await raw.client.xadd("decalage:{talk}:source", {"event": msgspec.json.encode(create())}, id=f"{stamp}-1")
    async with running():
        await raw.hear("talk", "session.created")
        await healthy(raw)
        await raw.say("talk", append("Thank you."), FINALIZE)
        assert (await raw.hear("talk"))[-1]["text"] == "Merci."


async def test_an_entry_without_the_field_names_what_it_has(raw: Raw, running: Running) -> None:
    """A misspelt field is told apart from broken JSON."""
    async with running():
        await raw.client.xadd("decalage:{talk}:source", {"evnt": "{}"})
        error = (await raw.hear("talk", "error"))[-1]
    assert error["code"] == "malformed_event"
    assert "'evnt'" in error["message"]
