"""Two producers in one session of a worker: both hear of it, and a takeover of the worker changes nothing."""

import asyncio

from producers import Publisher
from protocol import Session
from tests.producers import commands
from tests.worker.app.conftest import CLOSE, Raw, Running, append, create, untimed

FRENCH = Session(target_language="fr", segmentation="sentence")


async def test_two_publishers(raw: Raw, running: Running, redis_url: str) -> None:
    """The one that joins has taken over; each word of the first one is an error that names its entry."""
    async with running(), Publisher(redis_url, "talk", FRENCH) as first:
        await first.create()
        await first.append("We are")
        async with await Publisher.join(redis_url, "talk") as second:
            await second.append("at home.")
            await raw.hear("talk")
            await first.append("Nobody")
            await first.append("listens.")
            refused = [event for event in await raw.hear("talk", "error", count=2) if event["type"] == "error"]
            await second.append("Thank you.")
            await second.close()
        heard = await raw.hear("talk", "session.closed")
    assert [event["code"] for event in refused] == ["producer_conflict"] * 2
    assert len({event["source_id"] for event in refused}) == 2
    assert [event["text"] for event in heard if event["type"] == "segment.done"] == [
        "Nous sommes à la maison.",
        "Merci.",
    ]


async def test_two_that_create_the_same_session(raw: Raw, running: Running, redis_url: str) -> None:
    """Both look before the other has written: the second one's words are refused, not taken for copies."""
    async with running(), Publisher(redis_url, "talk", FRENCH) as one, Publisher(redis_url, "talk", FRENCH) as other:
        await asyncio.gather(one.create(), other.create())
        await asyncio.gather(one.append("We are at home."), other.append("Thank you."))
        refused = [event for event in await raw.hear("talk", "error", count=2) if event["type"] == "error"]
        heard = await raw.hear("talk")
    assert {event["code"] for event in refused} == {"producer_conflict"}
    assert heard[-1]["text"] in ("Nous sommes à la maison.", "Merci.")


async def test_the_rule_survives_a_takeover(raw: Raw, running: Running) -> None:
    """A worker that takes the session over refuses whom the last one has refused."""
    said = [
        {**create(), "seq": 1, "producer": "a"},
        append("I", seq=2, producer="a"),
        append("am", seq=3, producer="b"),
        append("lost", seq=3, producer="a"),
    ]
    late = [append("too", seq=4, producer="a"), append("ill.", seq=4, producer="b"), CLOSE]
    async with running():
        await raw.say("whole", *said, *late)
        whole = untimed(await raw.hear("whole", "session.closed"))
        await raw.say("talk", *said)
        await raw.hear("talk", "error")
    async with running():
        await raw.say("talk", *late)
        heard = untimed(await raw.hear("talk", "session.closed"))
    assert [event["code"] for event in heard if event["type"] == "error"] == ["producer_conflict"] * 2
    assert heard[-1] == whole[-1]
    assert heard[-2] == whole[-2]


async def test_send_says_so(raw: Raw, running: Running, redis_url: str) -> None:
    """Two `decalage send` at once in one session: no word is lost without a word about it, and both end with 1."""
    async with running():
        slow = ["--session", "talk", "--pace", "6", "--keep-open"]
        first = await commands.start("send", redis_url, *slow, "--to", "fr", *(["sister"] * 12))
        await raw.hear("talk", "session.created")
        second = await commands.run("send", redis_url, *slow, *(["children"] * 9))
        outcome = await commands.finish(first)
    for ran in (outcome, second):
        assert ran.code == 1
        assert "producer_conflict" in ran.err
