"""A session that changes hands, at any event and again and again, publishes what one that never moved publishes."""

from typing import Any

import pytest

from tests.worker.app.conftest import CLOSE, FINALIZE, Event, Raw, Running, append, create, untimed
from tests.worker.app.test_service import value

TEXT = "Please close the window before you leave the room. It is cold outside and I am ill."
WORDS = TEXT.split()
LOG: list[Event] = [*map(append, WORDS[:10]), FINALIZE, *map(append, WORDS[10:]), CLOSE]
OPTIONS: dict[str, dict[str, Any]] = {
    "wait-k": {"policy": {"type": "wait-k", "k": 3}},
    "catchup": {"policy": {"type": "wait-k", "k": 2, "catchup": 0.3}},
    "adaptive": {"policy": {"type": "adaptive", "min_k": 1, "max_k": 5, "threshold": 0.7}},
    "align-att": {"policy": {"type": "align-att", "frame_words": 1}},
    "local-agreement": {"policy": {"type": "local-agreement", "k": 2}},
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
        async with running(drain_ms=0 if not part else 500) as service:
            for cut in cuts:
                rest = LOG[cut:]
                await raw.say(f"s{cut}", *(rest[:2] if not part else rest[2:]))
            for cut in cuts:
                await raw.hear(f"s{cut}", "session.closed" if part else "session.created")
            replayed += value(service, "decalage_replayed_words_total")
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
