"""Sessions over HTTP, before a real Redis and a real worker."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from producers.gateway.sessions import members, split_text
from protocol import decode_server, encode, target_key
from protocol.keys import EVENT_FIELD
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving
from tests.producers.gateway.streams import frames, listened

TEXT = "My sister works in a hospital."
TRANSLATION = "Ma sœur travaille dans un hôpital."
GERMAN = "Meine Schwester arbeitet in einem Krankenhaus."


async def opened(served: Served, **body: Any) -> Any:
    """Open a session into French, or what `body` says, and return the answer."""
    answer = await served.http.post("/v1/sessions", json={"session": {"target_language": "fr"}, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def said(served: Served, session_id: str, **body: Any) -> Any:
    """Send input, a whole text and the end by default, and return the answer."""
    body = body or {"text": TEXT, "finalize": True, "close": True}
    answer = await served.http.post(f"/v1/sessions/{session_id}/input", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def text_of(found: list[Any]) -> str:
    """Return the translation in frames or messages."""
    events = [getattr(each, "data", each) for each in found]
    return "".join(event["text"] for event in events if event.get("type") == "output_text.delta")


async def test_a_session(served: Served, redis_client: Redis) -> None:
    """Words go in by POST, the wire's events come out by SSE, byte for byte as a worker published them."""
    session = await opened(served)
    assert session["object"] == "session"
    assert session["session"] == {**session["session"], "source_language": "en", "target_language": "fr"}
    assert (await said(served, session["id"]))["num_events"] == 3
    heard = await listened(served.http, f"/v1/sessions/{session['id']}/events")
    assert text_of(heard) == TRANSLATION
    *events, end = heard
    assert [frame.id for frame in events] == list(range(1, len(events) + 1))
    assert [end.event, end.data] == ["end", {"last_seq": len(events)}]
    entries: Any = await redis_client.xrange(target_key(session["id"]))
    published = [encode(decode_server(fields[EVENT_FIELD.encode()])) for _, fields in entries]
    async with served.http.stream("GET", f"/v1/sessions/{session['id']}/events") as response:
        raw = (await response.aread()).decode()
    assert [line.removeprefix("data: ").encode() for line in raw.splitlines() if line.startswith('data: {"type"')] == (
        published
    )


async def test_resuming_leaves_no_gap_and_no_duplicate(served: Served, serving: Serving) -> None:
    """From every position, on another gateway, exactly the rest comes; behind the end, 204 ends an EventSource."""
    session_id = (await opened(served))["id"]
    await said(served, session_id)
    path = f"/v1/sessions/{session_id}/events"
    whole = await listened(served.http, path)
    last = whole[-2].id or 0
    async with serving() as other:
        for after in range(last):
            rest = await listened(other.http, path, headers={"Last-Event-ID": str(after)})
            assert rest == whole[after:]
            assert rest == await listened(other.http, path, params={"after": after})
        assert (await other.http.get(path, headers={"Last-Event-ID": str(last)})).status_code == 204


async def test_many_listeners_while_words_come(served: Served) -> None:
    """Everyone who listens, from whatever position, gets the same words as they come."""
    session_id = (await opened(served))["id"]
    path = f"/v1/sessions/{session_id}/events"
    listening = [asyncio.create_task(listened(served.http, path)) for _ in range(5)]
    for word in TEXT.split():
        await said(served, session_id, text=word)
    await said(served, session_id, finalize=True, close=True)
    async with asyncio.timeout(DEADLINE_S):
        heard = await asyncio.gather(*listening)
    assert text_of(heard[0]) == TRANSLATION
    assert all(each == heard[0] for each in heard)


async def test_several_languages_in_one_call(served: Served) -> None:
    """A group is written once, and each of its sessions translates into its own language."""
    group = await opened(served, target_languages=["fr", "de"])
    assert group["object"] == "session.group"
    assert [each["session"]["target_language"] for each in group["sessions"]] == ["fr", "de"]
    await said(served, group["id"])
    texts = [text_of(await listened(served.http, f"/v1/sessions/{s['id']}/events")) for s in group["sessions"]]
    assert texts == [TRANSLATION, GERMAN]


async def test_a_closed_session_of_a_group_does_not_hold_up_the_others(served: Served) -> None:
    """The answer names it; once all are closed, the group is."""
    group = await opened(served, target_languages=["fr", "de"])
    first, second = (session["id"] for session in group["sessions"])
    await served.http.delete(f"/v1/sessions/{first}")
    await listened(served.http, f"/v1/sessions/{first}/events")
    assert (await said(served, group["id"]))["closed"] == [first]
    assert text_of(await listened(served.http, f"/v1/sessions/{second}/events")) == GERMAN
    answer = await served.http.delete(f"/v1/sessions/{group['id']}")
    assert answer.status_code == 409


async def test_variants_differ_in_any_option(served: Served) -> None:
    """Two policies side by side read the same words."""
    variants = [{"policy": {"type": "wait-k", "k": 1}}, {"policy": {"type": "wait-k", "k": 5}}]
    group = await opened(served, variants=variants)
    assert [each["session"]["policy"]["k"] for each in group["sessions"]] == [1, 5]
    await said(served, group["id"])
    firsts = []
    for session in group["sessions"]:
        heard = await listened(served.http, f"/v1/sessions/{session['id']}/events")
        firsts.append(next(f.data["source_words_read"] for f in heard if f.data.get("type") == "output_text.delta"))
    assert firsts == [1, 5]


async def test_numbered_events_may_be_sent_again(served: Served) -> None:
    """A repeated number is ignored by the worker."""
    session_id = (await opened(served))["id"]
    events = [{"type": "input_text.append", "seq": 1, "text": TEXT}, {"type": "input_text.finalize", "seq": 2}]
    for _ in range(2):
        await said(served, session_id, events=events)
    await said(served, session_id, events=[{"type": "session.close", "seq": 3}])
    assert text_of(await listened(served.http, f"/v1/sessions/{session_id}/events")) == TRANSLATION


async def test_where_a_session_stands(served: Served) -> None:
    """The phase goes from absent to open to closed; DELETE closes."""
    session_id = (await opened(served))["id"]
    path = f"/v1/sessions/{session_id}"
    async with served.http.stream("GET", f"{path}/events") as response, asyncio.timeout(DEADLINE_S):
        heard = frames(response)
        assert (await anext(heard)).data["type"] == "session.created"
        assert (await served.http.get(path)).json() == {
            "object": "session",
            "id": session_id,
            "phase": "open",
            "last_seq": 1,
        }
        deleted = await served.http.delete(path)
        assert (deleted.status_code, deleted.json()["phase"]) == (202, "closing")
        assert [frame.event async for frame in heard] == ["message", "end"]
    assert (await served.http.get(path)).json()["phase"] == "closed"
    answer = await served.http.post(f"{path}/input", json={"text": "more"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "session_closed")


async def test_a_refused_session_ends_its_stream(served: Served) -> None:
    """The worker's reason is the last event: nobody waits for more."""
    session_id = (await opened(served, session={"target_language": "tlh"}))["id"]
    heard = await listened(served.http, f"/v1/sessions/{session_id}/events")
    assert [heard[0].data["code"], heard[1].event] == ["unsupported_language", "end"]


async def test_a_long_text_is_split(served: Served) -> None:
    """A text of any length goes in at once, as several events."""
    session_id = (await opened(served, session={"target_language": "fr", "segmentation": "sentence"}))["id"]
    answer = await said(served, session_id, text=f"{TEXT} " * 400)
    assert answer["num_events"] > 1


@pytest.mark.parametrize("text", ["", " ", "x", "one two", "a" * 20, "no space at all, but here", " \n\t lead"])
def test_splitting_loses_nothing(text: str) -> None:
    """The parts joined are the text, no part is too long, and none is cut in a word that would fit."""
    parts = list(split_text(text, 8))
    assert "".join(parts).strip() == text.strip()
    assert all(len(part) <= 8 for part in parts)


@pytest.mark.parametrize("group", ["group_1f.0", "group_1f.9", "group_1f.", "group_1f", "group_1f.²", "group_1f.11"])
def test_a_group_that_cannot_be(group: str) -> None:
    """It is not found."""
    with pytest.raises(Exception, match="no such session"):
        members(group)
