"""The methods that writers share, and those of writers without an event loop."""

from typing import Any

import pytest

from producers import Client, SyncPublisher
from producers.session_methods import SessionMethods
from protocol import (
    ClientEvent,
    InputTextAppend,
    InputTextFinalize,
    Session,
    SessionClose,
    SessionPatch,
    SessionUpdate,
)


async def test_a_method_sends_its_event() -> None:
    """One event each, and the connection is closed at the end."""
    told: list[ClientEvent | str] = []

    class Writer(SessionMethods):
        async def send(self, *events: ClientEvent) -> None:
            told.extend(events)

        async def disconnect(self) -> None:
            told.append("disconnected")

    patch = SessionPatch(target_language="de")
    async with Writer() as writer:
        await writer.append("Good morning")
        await writer.finalize()
        await writer.update(patch)
        await writer.close()
    expected = [InputTextAppend(text="Good morning"), InputTextFinalize(), SessionUpdate(session=patch), SessionClose()]
    assert told == [*expected, "disconnected"]


@pytest.mark.parametrize(
    ("kind", "url", "instead"),
    [(SyncPublisher, "redis://127.0.0.1:1", "Publisher"), (Client, "http://127.0.0.1:1", "AsyncClient")],
)
async def test_within_an_event_loop_the_other_one_is_named(kind: Any, url: str, instead: str) -> None:
    """Before anything is sent."""
    writer = kind(url, session=Session())
    with pytest.raises(TypeError, match=f"a call inside one: use {instead} here"):
        writer.create()
