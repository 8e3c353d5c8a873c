"""The Structs: complete unions, unique types, defaults, the wire of version 1."""

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from protocol import Session, WaitK, decode_client, decode_server, decode_worker, encode
from protocol.events import (
    WIRE_VERSION,
    ClientEvent,
    Event,
    InputTextAppend,
    OutputTextDelta,
    ServerEvent,
    SessionCreate,
    WorkerEvent,
    wire_type,
)

LINES = Path(__file__).with_name("wire_v1.jsonl").read_text(encoding="utf-8").splitlines()
DECODERS = {
    wire_type(kind): decode
    for union, decode in ((ClientEvent, decode_client), (ServerEvent, decode_server), (WorkerEvent, decode_worker))
    for kind in get_args(union)
}


def _contains(whole: object, part: object) -> bool:
    """Every field of `part` that `whole` has carries the same value."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(_contains(whole[name], value) for name, value in part.items() if name in whole)
    return whole == part


def test_every_event_has_a_type_of_its_own() -> None:
    """No two events share a `type`, over all streams."""
    assert len(DECODERS) == len(get_args(Event))


@pytest.mark.parametrize("line", LINES)
def test_version_1_of_the_wire_stays_readable(line: str) -> None:
    """Every recorded event still decodes, and re-encoding keeps the value of every field that we know."""
    recorded = json.loads(line)
    again = json.loads(encode(DECODERS[recorded["type"]](line)))
    assert _contains(again, recorded)
    assert recorded.keys() - again.keys() <= {"note", "a_later_figure"}


def test_the_record_covers_every_event() -> None:
    """Each event type has at least one recorded line."""
    assert {json.loads(line)["type"] for line in LINES} == DECODERS.keys()


def test_an_event_without_options_takes_the_defaults() -> None:
    """A bare `session.create` asks for wire version 1, English, the model's policy, streaming."""
    event = decode_client('{"type":"session.create"}')
    assert isinstance(event, SessionCreate)
    assert (event.version, event.seq) == (WIRE_VERSION, None)
    assert (event.session.source_language, event.session.policy, event.session.mode) == ("en", None, "streaming")


def test_events_are_written_in_full() -> None:
    """Defaults are on the wire, so that a reader needs no table of defaults."""
    sent = json.loads(encode(SessionCreate(session=Session(policy=WaitK()))))
    assert sent["session"]["policy"] == {"type": "wait-k", "k": 3, "catchup": 0.0}
    assert sent["session"]["limits"]["max_tokens_per_word"] == 50


@pytest.mark.parametrize("kind", get_args(Event), ids=wire_type)
def test_events_are_frozen_and_documented(kind: type[msgspec.Struct]) -> None:
    """No event changes after it was built, all fields go by name, and each says what it means."""
    assert kind.__struct_config__.frozen
    assert kind.__doc__
    with pytest.raises(TypeError):
        kind("positional")


def test_an_event_refuses_assignment() -> None:
    """Setting a field of an event raises."""
    event = InputTextAppend(text="a")
    with pytest.raises(AttributeError):
        event.text = "b"  # type: ignore[misc]


def test_a_delta_names_everything_a_subscriber_needs() -> None:
    """The fields of a delta are part of the wire; losing one would break subscribers."""
    assert set(OutputTextDelta.__struct_fields__) == {
        *("seq", "segment", "index", "word", "text", "tokens"),
        *("source_words_read", "elapsed_ms", "delay_ms"),
    }
