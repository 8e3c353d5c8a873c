"""Sessions whose state Redis has lost, to an eviction or by somebody's DEL: they go on, or end with an error."""

import json
from typing import Any

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
