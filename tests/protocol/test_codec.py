"""Decoding gives the event that was encoded, or a ProtocolError that says what is wrong and where."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import (
    EventTooLarge,
    InputTextAppend,
    InvalidEvent,
    MalformedEvent,
    ProtocolError,
    Sampling,
    Session,
    SessionCreate,
    UnknownEventType,
    UnsupportedVersion,
    WaitK,
    check,
    decode_client,
    decode_server,
    decode_worker,
    encode,
    wire_type,
)
from protocol.events import ClientEvent, ServerEvent, WorkerEvent
from protocol.limits import (
    MAX_EVENT_BYTES,
    MAX_METADATA_ENTRIES,
    MAX_METADATA_KEY_CHARS,
    MAX_METADATA_VALUE_CHARS,
    MAX_PROMPT_CHARS,
    MAX_SEQ,
    MAX_TARGET_EVENT_BYTES,
    MAX_TEXT_CHARS,
)

Decode = Callable[[bytes | str], Any]
SIDES: list[tuple[Any, Decode]] = [
    (ClientEvent, decode_client),
    (ServerEvent, decode_server),
    (WorkerEvent, decode_worker),
]
KINDS = [pytest.param(kind, decode, id=wire_type(kind)) for union, decode in SIDES for kind in get_args(union)]
DECODERS = [pytest.param(decode, id=decode.__name__) for _, decode in SIDES]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "seq", "session", "text", "x"]), inner),
)
law = settings(deadline=None)


def _create(**session: Any) -> str:
    return json.dumps({"type": "session.create", "session": session})


@pytest.mark.parametrize(("kind", "decode"), KINDS)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_decoding_undoes_encoding(kind: type[msgspec.Struct], decode: Decode, data: st.DataObject) -> None:
    """decode(encode(e)) == e, from bytes and from str."""
    event: Any = data.draw(st.from_type(kind))
    sent = encode(event)
    if len(sent) <= MAX_EVENT_BYTES:
        assert decode(sent) == event
        assert decode(sent.decode()) == event


@pytest.mark.parametrize(("kind", "decode"), KINDS)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_unknown_fields_are_ignored(kind: type[msgspec.Struct], decode: Decode, data: st.DataObject) -> None:
    """A field of a later version changes nothing."""
    event: Any = data.draw(st.from_type(kind))
    extended = json.dumps({**json.loads(encode(event)), "later": {"deep": [1, {"er": None}]}}, ensure_ascii=False)
    if len(extended.encode()) <= MAX_EVENT_BYTES:
        assert decode(extended) == event


@pytest.mark.parametrize("decode", DECODERS)
@law
@given(raw=st.binary() | st.text() | JSON.map(json.dumps))
@example(b"")
@example(b"\xff\xfe")
@example("\ud800")
@example(b"null")
@example(b"[" * MAX_EVENT_BYTES)
@example(b'{"type":"input_text.append","text":"a","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}")
@example(b'{"type":"session.close","seq":' + b"9" * 10_000 + b"}")
@example(b'{"type":"session.create","version":' + b"9" * 10_000 + b"}")
@example(b'{"type":"session.create","version":' + b"9" * 400 + b"}")
@example(b'{"type":"unheard.of","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}")
@example(b'{"type":"unheard.of","x":"\xff"}')
@example(b'{"type":"input_text.append","text":"\\ud800"}')
@example(b'{"type":"session.create","session":{"policy":3,"policy":{"type":"wait-k"}}}')
def test_nothing_but_protocol_errors_comes_out(decode: Decode, raw: bytes | str) -> None:
    """Whatever arrives, the result is an event or a ProtocolError."""
    with suppress(ProtocolError):
        decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"type": "s" * 60_000}),
        _create(mode="s" * 60_000),
        '{"type":"session.create","version":' + "9" * 4_000 + "}",
        '{"type":"session.close","seq":' + "9" * 60_000 + "}",
    ],
)
def test_an_error_does_not_grow_with_its_cause(raw: str) -> None:
    """However long the refused value, the message stays short: it goes into another stream."""
    with pytest.raises(ProtocolError) as caught:
        decode_client(raw)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("raw", [b"", b"{", b"word", b"{}{}", b'{"type":"session.close"} x', b'{"a":"\xff"}', "\ud800"])
def test_text_that_is_not_json_is_malformed(raw: bytes | str) -> None:
    """Broken JSON and broken UTF-8 are told apart from a wrong shape."""
    with pytest.raises(MalformedEvent) as caught:
        decode_client(raw)
    assert caught.value.code == "malformed_event"


@pytest.mark.parametrize("raw", [b"[]", b"3", b"null", b'"session.close"'])
def test_json_that_is_no_object_is_invalid(raw: bytes) -> None:
    """An event is an object; anything else is wrong at the root."""
    with pytest.raises(InvalidEvent, match="object") as caught:
        decode_client(raw)
    assert caught.value.param == "$"


@pytest.mark.parametrize(("union", "decode"), SIDES)
def test_an_unknown_type_is_named_beside_the_known_ones(union: Any, decode: Decode) -> None:
    """The message carries the refused type and all that the stream would take."""
    with pytest.raises(UnknownEventType, match=r"'input_text\.sing'") as caught:
        decode('{"type":"input_text.sing"}')
    assert all(wire_type(kind) in str(caught.value) for kind in get_args(union))
    assert caught.value.param == "$.type"


def test_an_event_of_another_stream_is_an_unknown_type() -> None:
    """A worker's event has no place in a source stream."""
    with pytest.raises(UnknownEventType, match=r"worker\.stats"):
        decode_client('{"type":"worker.stats"}')


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ("{}", "$.type"),
        ('{"type":7}', "$.type"),
        ('{"type":"input_text.append"}', "$.text"),
        ('{"type":"input_text.append","text":3}', "$.text"),
        ('{"type":"input_text.append","text":"a","seq":-1}', "$.seq"),
        ('{"type":"input_text.append","text":"a","seq":1.5}', "$.seq"),
        (f'{{"type":"session.close","seq":{MAX_SEQ + 1}}}', "$.seq"),
        ('{"type":"session.create","version":0}', "$.version"),
        ('{"type":"session.update"}', "$.session"),
        ('{"type":"session.update","session":{"mode":null}}', "$.session.mode"),
        (_create(policy={"type": "wait-k", "k": 0}), "$.session.policy.k"),
        (_create(policy={"type": "wait-k", "k": 1001}), "$.session.policy.k"),
        (_create(policy={"type": "wait-and-see"}), "$.session.policy.type"),
        (_create(policy={"k": 3}), "$.session.policy.type"),
        (_create(mode="shouting"), "$.session.mode"),
        (_create(source_language=""), "$.session.source_language"),
        (_create(sampling={"temperature": -0.1}), "$.session.sampling.temperature"),
        (_create(sampling={"top_p": 0}), "$.session.sampling.top_p"),
        (_create(sampling={"top_p": 1.01}), "$.session.sampling.top_p"),
        (_create(sampling={"repetition_penalty": 0}), "$.session.sampling.repetition_penalty"),
        (_create(sampling={"seed": 2**63}), "$.session.sampling.seed"),
        (_create(limits={"max_new_words": 0}), "$.session.limits.max_new_words"),
        (_create(limits={"idle_timeout_ms": 999}), "$.session.limits.idle_timeout_ms"),
        (_create(speculation={"max_draft_tokens": 65}), "$.session.speculation.max_draft_tokens"),
        (_create(metadata={"": "a"}), "$.session.metadata"),
        (_create(metadata={"a": 1}), "$.session.metadata[...]"),
    ],
)
def test_a_wrong_shape_is_named_by_its_path(raw: str, param: str) -> None:
    """`param` points at the value, and the message repeats it."""
    with pytest.raises(InvalidEvent) as caught:
        decode_client(raw)
    assert caught.value.param == param
    assert param in str(caught.value)


def test_a_value_that_looks_like_a_path_does_not_mislead() -> None:
    """The path is the decoder's, also where the refused value contains something like one."""
    with pytest.raises(InvalidEvent) as caught:
        decode_client(_create(mode="x' - at `$.session.prompt`"))
    assert caught.value.param == "$.session.mode"


@pytest.mark.parametrize("rest", ["", ',"session":{"policy":{"type":"telepathy"}}', ',"session":3'])
def test_a_newer_version_is_refused_as_such(rest: str) -> None:
    """Whatever else a later version changes, the answer is about the version."""
    with pytest.raises(UnsupportedVersion, match="got 2") as caught:
        decode_client(f'{{"type":"session.create","version":2{rest}}}')
    assert caught.value.param == "$.version"


def _append(text: str) -> bytes:
    return encode(InputTextAppend(text=text))


BOUNDS = [
    pytest.param(MAX_TEXT_CHARS, _append, id="text"),
    pytest.param(MAX_TEXT_CHARS, lambda n: _append("早" * len(n)), id="wide text"),
    pytest.param(MAX_PROMPT_CHARS, lambda n: _create(prompt=n), id="prompt"),
    pytest.param(MAX_METADATA_KEY_CHARS, lambda n: _create(metadata={n: ""}), id="metadata key"),
    pytest.param(MAX_METADATA_VALUE_CHARS, lambda n: _create(metadata={"a": n}), id="metadata value"),
    pytest.param(
        MAX_METADATA_ENTRIES, lambda n: _create(metadata={str(i): "" for i in range(len(n))}), id="metadata entries"
    ),
]


@pytest.mark.parametrize(("bound", "event_of"), BOUNDS)
def test_each_bound_is_the_last_that_passes(bound: int, event_of: Callable[[str], bytes | str]) -> None:
    """Exactly the bound decodes; one more is invalid and named."""
    decode_client(event_of("a" * bound))
    with pytest.raises(InvalidEvent) as caught:
        decode_client(event_of("a" * (bound + 1)))
    assert caught.value.param != "$"


@pytest.mark.parametrize(
    ("decode", "event", "bound"),
    [
        (decode_client, b'{"type":"session.close"}', MAX_EVENT_BYTES),
        (decode_worker, b'{"type":"worker.configure"}', MAX_EVENT_BYTES),
        (decode_server, b'{"type":"error","seq":1,"code":"a","message":"b"}', MAX_TARGET_EVENT_BYTES),
    ],
)
def test_the_event_size_is_bounded_before_parsing(decode: Decode, event: bytes, bound: int) -> None:
    """Exactly the bound decodes; one byte more is too large, even where it is not JSON at all."""
    decode(event.ljust(bound))
    with pytest.raises(EventTooLarge, match=str(bound)):
        decode(event.ljust(bound + 1))
    with pytest.raises(EventTooLarge):
        decode("{" * (bound + 1))


def test_size_counts_bytes_not_characters() -> None:
    """A str is measured as UTF-8."""
    with pytest.raises(EventTooLarge):
        decode_client(json.dumps({"type": "session.close", "x": "早" * 30_000}, ensure_ascii=False))


def test_text_that_utf8_cannot_hold_is_not_encoded() -> None:
    """A lone surrogate raises our error, not Python's."""
    with pytest.raises(InvalidEvent, match="surrogate"):
        encode(InputTextAppend(text="\ud800"))


def test_check_returns_what_encode_gives() -> None:
    """A good event passes unchanged."""
    assert check(SessionCreate()) == encode(SessionCreate())


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (SessionCreate(session=Session(policy=WaitK(k=0))), "$.session.policy.k"),
        (SessionCreate(session=Session(sampling=Sampling(temperature=float("nan")))), "$.session.sampling.temperature"),
        (InputTextAppend(text="a" * (MAX_TEXT_CHARS + 1)), "$.text"),
    ],
)
def test_check_refuses_what_the_worker_would_refuse(event: Any, param: str) -> None:
    """Values built in Python are not checked when built; `check` does it before they are sent."""
    with pytest.raises(InvalidEvent) as caught:
        check(event)
    assert caught.value.param == param
