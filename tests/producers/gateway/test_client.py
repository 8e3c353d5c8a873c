"""`AsyncClient` and `Client`: the surface of publishers and subscribers, through a gateway."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from producers import AsyncClient, Client, GatewayRefused, GatewayUnreachable
from producers.gateway.auth import SCOPES, Caller
from protocol import IllegalEvent, OutputTextDelta, ServerEvent, Session, SessionPatch, SessionUpdated
from tests.producers.gateway.conftest import DEADLINE_S, Served, Serving, hashed, ready
from tests.producers.gateway.test_sessions import TEXT, TRANSLATION, opened, said
from tests.producers.proxy import Proxy

FRENCH = Session(target_language="fr")


def text_of(events: list[ServerEvent]) -> str:
    """Return the translation."""
    return "".join(event.text for event in events if isinstance(event, OutputTextDelta))


@pytest.fixture
async def proxy(served: Served) -> AsyncIterator[Proxy]:
    """A proxy before the gateway, which cuts connections."""
    async with Proxy(served.url.replace("http", "redis")) as between:
        yield between


async def test_a_session(served: Served) -> None:
    """As with a publisher and a subscriber, over one connection."""
    async with AsyncClient(served.url, FRENCH) as client, asyncio.timeout(DEADLINE_S):
        await client.create()
        for word in TEXT.split():
            await client.append(word)
        await client.finalize()
        await client.update(SessionPatch(target_language="de"))
        await client.close()
        events = [event async for event in client]
    assert text_of(events) == TRANSLATION
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert any(isinstance(event, SessionUpdated) for event in events)
    assert client.session_id.startswith("sess_")


async def test_without_an_event_loop(served: Served) -> None:
    """The same, as a plain iterator."""

    def session() -> list[ServerEvent]:
        with Client(served.url, FRENCH) as client:
            client.create()
            client.append(TEXT)
            client.finalize()
            client.close()
            return list(client)

    assert text_of(await asyncio.to_thread(session)) == TRANSLATION


async def test_lost_connections(served: Served, proxy: Proxy) -> None:
    """Whatever is cut, every word goes in once, and every event comes out once."""
    async with AsyncClient(proxy.url.replace("redis", "http").removesuffix("/0"), FRENCH) as client:
        await client.create()
        heard = []
        async with asyncio.timeout(DEADLINE_S):
            for word in TEXT.split():
                await client.append(word)
                proxy.cut()
            await client.close()
            async for event in client:
                heard.append(event)
                proxy.cut()
    assert text_of(heard) == TRANSLATION
    assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
    assert proxy.num_connections > 3


async def test_a_listener_with_a_link(serving: Serving, served: Served) -> None:
    """It reads on behind a number, and can send nothing."""
    keys = hashed(key=Caller("team-a", SCOPES))
    async with serving(keys=keys) as locked:
        await ready(locked)
        async with AsyncClient(locked.url, FRENCH, key="key") as speaker, asyncio.timeout(DEADLINE_S):
            await speaker.create()
            await speaker.append(TEXT)
            await speaker.close()
            whole = [event async for event in speaker]
            token = keys.link(speaker.session_id, 2**40)
            async with AsyncClient.listen(locked.url, speaker.session_id, after=2, key=token) as listener:
                assert [event async for event in listener] == whole[2:]
                assert listener.last_seq == len(whole)
                with pytest.raises(IllegalEvent):
                    await listener.append("more")


async def test_what_is_refused(serving: Serving, served: Served) -> None:
    """The error has the gateway's code and reason."""
    keys = hashed(key=Caller("team-a", SCOPES))
    async with serving(keys=keys) as locked, AsyncClient(locked.url, FRENCH, key="wrong") as client:
        with pytest.raises(GatewayRefused, match="invalid_key"):
            await client.create()
    async with AsyncClient.listen(served.url, "sess_0") as client:
        with pytest.raises(GatewayRefused, match="session_not_found"):
            await anext(client)


async def test_no_gateway_there() -> None:
    """After the time that it may wait, the error names the address."""
    async with AsyncClient("http://127.0.0.1:1", FRENCH, patience_s=0.1) as client:
        with pytest.raises(GatewayUnreachable, match=r"127\.0\.0\.1:1"):
            await client.create()


async def test_http_and_client_share_a_session(served: Served) -> None:
    """A session that was opened by HTTP can be listened to."""
    session_id = (await opened(served))["id"]
    await said(served, session_id)
    async with AsyncClient.listen(served.url, session_id) as client, asyncio.timeout(DEADLINE_S):
        assert text_of([event async for event in client]) == TRANSLATION
