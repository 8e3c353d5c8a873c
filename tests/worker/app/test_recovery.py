"""Sessions whose state Redis has lost, to an eviction or by somebody's DEL: they go on, or end with an error."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.worker.app.conftest import CLOSE, FINALIZE, Event, Raw, Running, append, create, untimed
from tests.worker.app.test_takeover import LOG, WORDS, numbered

STATE = "decalage:{talk}:state"
SOURCE = "decalage:{talk}:source"
TARGET = "decalage:{talk}:target"
UPDATE: Event = {"type": "session.update", "session": {"metadata": {"a": "b"}}}
BUSY: list[Event] = [create(), *LOG[:6], UPDATE, {"type": "nonsense"}, *LOG[6:]]
"""A log with events that are answered at once, among words."""


def by_kind(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """Return what answers a producer and what is translated, each in its order: the two need not keep step."""
    events = [{k: v for k, v in event.items() if k != "seq"} for event in untimed(events)]
    outputs = ("output_text.delta", "segment.done", "session.closed")
    return [e for e in events if e["type"] not in outputs], [e for e in events if e["type"] in outputs]


async def test_a_state_lost_under_its_worker_is_written_again(raw: Raw, running: Running) -> None:
    """Before every event of the log: the worker has all that was in it, and nothing is translated twice."""
    async with running() as worker:
        await raw.say("whole", *BUSY)
        whole = by_kind(await raw.hear("whole", "session.closed"))
        for event in BUSY:
            await raw.client.delete(STATE)
            await raw.say("talk", event)
        events = await raw.hear("talk", "session.closed")
        assert worker.metrics.registry.get_sample_value("decalage_replayed_words_total") == 0
    assert by_kind(events) == whole
    assert await raw.client.hexists(STATE, "checkpoint")


@pytest.mark.parametrize("is_numbered", [False, True])
async def test_a_state_lost_between_two_workers_is_made_again(raw: Raw, running: Running, is_numbered: bool) -> None:
    """Cut all over the log, with words of an open segment published: no word is lost, repeated or changed."""
    log = numbered(*BUSY) if is_numbered else BUSY
    cuts = range(1, len(log), 2)
    async with running():
        await raw.say("whole", *log)
        whole = by_kind(await raw.hear("whole", "session.closed"))
        for cut in cuts:
            await raw.say(f"s{cut}", *log[:cut])
        for cut in cuts[3:]:
            await raw.hear(f"s{cut}", "output_text.delta")
    for cut in cuts:
        await raw.client.delete(f"decalage:{{s{cut}}}:state")
    async with running():
        for cut in cuts:
            await raw.say(f"s{cut}", *log[cut:])
        for cut in cuts:
            assert by_kind(await raw.hear(f"s{cut}", "session.closed")) == whole, cut


async def test_a_closed_session_stays_closed(raw: Raw, running: Running) -> None:
    """Nothing is translated again; what is said to it then is refused as ever."""
    async with running():
        await raw.say("talk", create(), append("Thank you."), CLOSE)
        heard = await raw.hear("talk", "session.closed")
    await raw.client.delete(STATE)
    async with running():
        await raw.say("talk", append("more"))
        assert (await raw.hear("talk", "error"))[len(heard) :][0]["code"] == "session_closed"


async def test_words_refused_for_lack_of_room_stay_refused(raw: Raw, running: Running) -> None:
    """As after a takeover: what was published tells which these were."""
    full = create(limits={"max_backlog_words": 2}, policy={"type": "wait-k", "k": 9})
    said = [full, append("We are at home now"), append("Thank you."), FINALIZE]
    async with running():
        await raw.say("talk", *said)
        assert (await raw.hear("talk"))[1]["code"] == "backlog_full"
    await raw.client.delete(STATE)
    async with running():
        await raw.say("talk", CLOSE)
        heard = await raw.hear("talk", "session.closed")
    assert [event["text"] for event in heard if event["type"] == "segment.done"] == ["Merci."]
    assert heard[-1]["source_words"] == 2


async def change(raw: Raw, what: str) -> None:
    """Lose or change more than the state, as an eviction of several keys or another model would."""
    if what == "source":
        await raw.client.delete(SOURCE)
    elif what == "trimmed":
        await raw.client.xtrim(SOURCE, maxlen=3, approximate=False)
    else:
        entries: Any = await raw.client.xrange(TARGET)
        await raw.client.delete(TARGET)
        for entry_id, fields in entries:
            event = json.loads(fields[b"event"])
            changed = {**event, **({"text": " autre"} if event["type"] == "output_text.delta" else {})}
            await raw.client.xadd(TARGET, {b"event": json.dumps(changed)}, id=entry_id)
        await raw.client.expire(TARGET, 100)


@pytest.mark.parametrize("what", ["source", "trimmed", "words"])
async def test_what_cannot_be_made_again_ends_with_an_error(raw: Raw, running: Running, what: str) -> None:
    """Listeners and producers hear it, behind all that was published, and it says what to do."""
    async with running():
        await raw.say("talk", create(), *map(append, WORDS[:8]))
        before = await raw.hear("talk", "output_text.delta", count=3)
    await raw.client.delete(STATE)
    await change(raw, what)
    async with running():
        await raw.say("talk", *([append("you.")] if what != "source" else []))
        heard = await raw.hear("talk", "session.closed")
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert len(heard) >= len(before) + 2
    assert (heard[-2]["code"], heard[-1]["reason"]) == ("internal_error", "error")
    assert "noeviction" in heard[-2]["message"]


async def restore(raw: Raw, name: str) -> list[Event]:
    """Write a session as 0.1.0 left it when its worker was killed; return its target events."""
    recorded = json.loads(Path(__file__).with_name("sessions_0_1_0.json").read_text())[name]
    state = {field: text.encode("latin-1") for field, text in recorded["state"].items()}
    await raw.client.hset(f"decalage:{{{name}}}:state", mapping=state)
    for stream in ("source", "target"):
        for entry_id, fields in recorded[stream]:
            await raw.client.xadd(f"decalage:{{{name}}}:{stream}", fields, id=entry_id)
    for key in ("state", "source", "target"):
        await raw.client.expire(f"decalage:{{{name}}}:{key}", 600)
    return [json.loads(fields["event"]) for _, fields in recorded["target"]]


async def test_sessions_of_an_earlier_version_go_on(raw: Raw, running: Running) -> None:
    """Nobody can read its checkpoints: an open session goes on from its streams, a closed one stays closed."""
    before = {name: await restore(raw, name) for name in ("open", "closed")}
    async with running():
        await raw.say("open", append("We are at home."), CLOSE)
        await raw.say("closed", append("more"))
        opened = await raw.hear("open", "session.closed")
        closed = await raw.hear("closed", "error")
        await raw.say("new", create(), append("We are at home."), CLOSE)
        fresh = await raw.hear("new", "session.closed")
    num_before = len(before["open"])
    assert opened[:num_before] == before["open"]
    assert texts(opened[num_before:]) == texts(fresh) != []
    assert (opened[-1]["source_words"], opened[-1]["target_words"]) == (6, 2 + fresh[-1]["target_words"])
    assert (closed[:-1], closed[-1]["code"]) == (before["closed"], "session_closed")


def texts(events: list[Event]) -> list[str]:
    """Return the translated segments."""
    return [event["text"] for event in events if event["type"] == "segment.done"]


@pytest.mark.parametrize("number", [0, 2])
async def test_a_checkpoint_of_another_format_is_not_misread(raw: Raw, running: Running, number: int) -> None:
    """Earlier or later, with the same fields: cut in the middle, the session goes on from its streams."""
    async with running():
        await raw.say("whole", create(), *LOG)
        whole = untimed(await raw.hear("whole", "session.closed"))
        await raw.say("talk", create(), *LOG[:6])
        await raw.hear("talk", "output_text.delta")
    saved: Any = await raw.client.hget(STATE, "checkpoint")
    first, *rest = msgspec.msgpack.decode(saved)
    assert first == 1
    await raw.client.hset(STATE, "checkpoint", msgspec.msgpack.encode([number, "closed", *rest[1:]]))
    async with running():
        await raw.say("talk", *LOG[6:])
        assert untimed(await raw.hear("talk", "session.closed")) == whole


async def test_used_numbers_are_not_given_again(raw: Raw, running: Running) -> None:
    """Where the target stream is gone too, all is translated again, under new numbers."""
    before = await restore(raw, "open")
    await raw.client.delete("decalage:{open}:target")
    async with running():
        await raw.say("open", append("We are at home."), CLOSE)
        heard = await raw.hear("open", "session.closed")
    assert (heard[0]["type"], heard[0]["seq"]) == ("session.created", len(before) + 1)
    assert len(texts(heard)) == 2
