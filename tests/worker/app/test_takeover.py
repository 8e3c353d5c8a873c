"""A session that changes hands, at any event and again and again, publishes what one that never moved publishes."""

from typing import Any

import pytest

from tests.conftest import one_redis
from tests.worker.app.conftest import CLOSE, FINALIZE, Event, Raw, Running, append, create, untimed
from tests.worker.app.test_worker import value

pytestmark = one_redis
TEXT = "Please close the window before you leave the room. It is cold outside and I am ill."
WORDS = TEXT.split()
LOG: list[Event] = [*map(append, WORDS[:10]), FINALIZE, *map(append, WORDS[10:]), CLOSE]
OPTIONS: dict[str, dict[str, Any]] = {
    "wait-k": {"policy": {"type": "wait-k", "k": 3}},
    "catchup": {"policy": {"type": "wait-k", "k": 2, "catchup": 0.3}},
    "adaptive": {"policy": {"type": "adaptive", "min_k": 1, "max_k": 5, "threshold": 0.7}},
    "align-att": {"policy": {"type": "align-att", "frame_words": 1}},
    "local-agreement": {"policy": {"type": "local-agreement", "k": 2, "max_ahead_tokens": 4}},
    "sampled": {"sampling": {"temperature": 0.8, "repetition_penalty": 1.2, "seed": 3}},
    "sentences": {"segmentation": "sentence"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_takeover_at_any_event_changes_nothing(raw: Raw, running: Running, options: dict[str, Any]) -> None:
    """Law: sessions are cut all over the log, the second time by a worker that leaves in the middle of its work."""
    cuts = range(1, len(LOG) + 1, 3)
    async with running():
        await raw.say("whole", create(**options), *LOG)
        whole = untimed(await raw.hear("whole", "session.closed"))
        for cut in cuts:
            await raw.say(f"s{cut}", create(**options), *LOG[:cut])
        for cut in cuts[2:]:
            await raw.hear(f"s{cut}", "output_text.delta")
    replayed = 0.0
    for part in range(2):  # the second of these takes over from the first in the middle of what it works on
        async with running(drain_ms=0 if not part else 500) as worker:
            for cut in cuts:
                rest = LOG[cut:]
                await raw.say(f"s{cut}", *(rest[:2] if not part else rest[2:]))
            for cut in cuts:
                await raw.hear(f"s{cut}", "session.closed" if part else "session.created")
            replayed += value(worker, "decalage_replayed_words_total")
    for cut in cuts:
        assert untimed(await raw.hear(f"s{cut}", "session.closed")) == whole, cut
    assert replayed > 0


async def test_what_lies_before_the_last_pause_is_not_needed(raw: Raw, running: Running) -> None:
    """A takeover reads the log from the last moment when all that had been said was translated: what came before may be
    trimmed.
    """
    source = "decalage:{talk}:source"
    async with running():
        await raw.say("whole", create(), *LOG)
        whole = untimed(await raw.hear("whole", "session.closed"))
        await raw.say("talk", create(), *LOG[:11])
        await raw.hear("talk")
    newest: Any = await raw.client.xrevrange(source, count=1)
    async with running():
        await raw.say("talk", *LOG[11:16])
        await raw.hear("talk", "output_text.delta", count=len(WORDS[:10]) + 1)
    await raw.client.xtrim(source, minid=newest[0][0], approximate=False)
    async with running():
        await raw.say("talk", *LOG[16:])
        heard = await raw.hear("talk", "session.closed")
    assert untimed(heard) == whole


def numbered(*events: Event, first: int = 1) -> list[Event]:
    """The events with the numbers that their producer gives them."""
    return [{**event, "seq": seq} for seq, event in enumerate(events, first)]


async def test_an_event_that_cannot_be_decoded_uses_its_number_in_a_replay_too(raw: Raw, running: Running) -> None:
    """A takeover behind such an event goes on as if nothing had moved."""
    said = numbered(create(), {"type": "nonsense"}, *map(append, WORDS), CLOSE)
    async with running():
        await raw.say("whole", *said)
        whole = untimed(await raw.hear("whole", "session.closed"))
        await raw.say("talk", *said[:12])
        await raw.hear("talk", "output_text.delta", count=3)
    async with running():
        await raw.say("talk", *said[12:])
        assert untimed(await raw.hear("talk", "session.closed")) == whole


async def test_a_create_that_found_no_room_uses_its_number_in_a_replay_too(raw: Raw, running: Running) -> None:
    """Refused by a full worker, sent again under the next number, and taken over: no number is missing."""
    async with running(max_sessions=1):
        await raw.say("first", create())
        await raw.hear("first", "session.created")
        await raw.say("talk", *numbered(create()))
        assert (await raw.hear("talk", "error"))[-1]["code"] == "worker_full"
        await raw.say("first", CLOSE)
        await raw.hear("first", "session.closed")
        await raw.say("talk", *numbered(create(), append("Thank"), first=2))
        await raw.hear("talk", "session.created")
    async with running():
        await raw.say("talk", *numbered(append("you."), CLOSE, first=4))
        assert (await raw.hear("talk", "session.closed"))[-2]["text"] == "Merci."
