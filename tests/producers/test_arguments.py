"""Arguments of another kind are named, with what is expected in their place."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from producers import Publisher, Subscriber, SyncPublisher
from protocol import InputTextAppend, InvalidEvent, InvalidSessionId, Session, SessionPatch, check

URL = "redis://127.0.0.1:1/0"
OPENERS = (Publisher, Subscriber, SyncPublisher)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("broker", "named"),
    [
        (redis.Redis(password="s3cret"), r"got redis\.client\.Redis; that one blocks"),
        (redis.StrictRedis.from_url("redis://:s3cret@h"), "blocks the event loop"),
        (redis.ConnectionPool(password="s3cret"), "give the URL"),
        (redis.asyncio.ConnectionPool(), "give the URL"),
        (redis.asyncio.Redis().pipeline(), "Pipeline"),
        (redis.asyncio.RedisCluster(host="h"), r"redis\+cluster://HOST:PORT"),
        (redis.asyncio.Redis, "that is a class"),
        (b"redis://:s3cret@h", "got bytes"),
        (("localhost", 6379), "got tuple"),
        (None, "got NoneType"),
    ],
)
def test_the_client_that_is_expected_is_named(opener: Callable[..., object], broker: object, named: str) -> None:
    """Whatever else is given, the message names a URL and the asyncio client, and shows no password."""
    with pytest.raises(TypeError, match=r"expected the URL of a Redis.*redis\.asyncio\.Redis") as failure:
        opener(broker, "talk-1")
    assert failure.match(named)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("session_id", [Session(target_language="fr"), 7, b"talk-1"])
def test_a_session_id_is_text(opener: Callable[..., object], session_id: Any) -> None:
    """Options in the place of the id, too."""
    with pytest.raises(InvalidSessionId, match=f"a str such as 'talk-1', got {type(session_id).__name__}"):
        opener(URL, session_id)


@pytest.mark.parametrize(
    ("opener", "options", "named"),
    [
        (Publisher, {"session": {"target_language": "fr"}}, r"Session\(target_language='fr', ...\), got dict"),
        (Publisher, {"session": SessionPatch()}, "got SessionPatch"),
        (SyncPublisher, {"session": "fr"}, "got str"),
        (Publisher, {"num_shards": "64"}, "whole number for num_shards, got str '64'"),
        (Publisher, {"num_shards": 1.5}, "whole number for num_shards"),
        (SyncPublisher, {"patience_s": None}, "number for patience_s, got NoneType"),
        (Subscriber, {"after": "5-0"}, "whole number for after, got str"),
        (Subscriber, {"timeout_s": "5"}, "number for timeout_s, got str"),
    ],
)
def test_options_of_another_type(opener: Callable[..., object], options: dict[str, Any], named: str) -> None:
    """The option, the type that is expected, and what was given."""
    with pytest.raises(TypeError, match=named):
        opener(URL, "talk-1", **options)


@pytest.mark.parametrize(
    ("opener", "options"),
    [(Publisher, {"num_shards": 0}), (Publisher, {"patience_s": float("nan")}), (Subscriber, {"after": -1})],
)
def test_options_out_of_range(opener: Callable[..., object], options: dict[str, Any]) -> None:
    """The option and its range."""
    with pytest.raises(ValueError, match=next(iter(options))):
        opener(URL, "talk-1", **options)


async def test_what_is_sent_is_an_event() -> None:
    """Text, lists and values that JSON would change are refused before they are numbered."""
    publisher = Publisher(URL, "talk-1", Session())
    for wrong in ("hello", [InputTextAppend(text="hello")], None, {"type": "input_text.append"}):
        with pytest.raises(TypeError, match=f"expected an event.*got {type(wrong).__name__}"):
            await publisher.send(wrong)  # type: ignore[arg-type]
    assert publisher.num_unsent_events == 0
    await publisher.disconnect()


def test_bytes_are_no_text() -> None:
    """JSON would hold them as base64, and a worker would translate that."""
    for event, name in ((InputTextAppend(text=b"hello"), "text"), (InputTextAppend(text=bytearray(b"a")), "text")):  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent, match=rf"`\$\.{name}` that JSON holds as it is, got byte"):
            check(event)


def test_a_publisher_without_a_loop_inside_one() -> None:
    """The other publisher is named."""

    async def call() -> None:
        SyncPublisher(URL, "talk-1").create()

    with pytest.raises(TypeError, match="use Publisher here"):
        asyncio.run(call())
