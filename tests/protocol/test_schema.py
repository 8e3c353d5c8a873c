"""The documents are valid, complete, and the committed copies are fresh."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import encode, keys, wire_type
from protocol.events import ClientEvent, Event, ServerEvent, WorkerEvent
from protocol.limits import MAX_EVENT_BYTES, MAX_TEXT_CHARS
from protocol.schema import COPIES, asyncapi, documents, json_schema, main

TYPES = {wire_type(kind) for kind in get_args(Event)}


@pytest.fixture(scope="module")
def jsonschema() -> Any:
    """The validator, where it is installed; the package itself does not need it."""
    return pytest.importorskip("jsonschema")


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from _references(child)


def _at(document: Any, reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        document = document[name]
    return document


@pytest.mark.parametrize("name", documents())
def test_the_committed_copy_is_fresh(name: str) -> None:
    """`python -m protocol.schema --write` would change nothing."""
    copy = (COPIES / name).read_text(encoding="utf-8")
    assert copy == documents()[name], "stale: run `python -m protocol.schema --write`"


def test_the_documents_do_not_depend_on_the_run() -> None:
    """Another process with another hash seed prints the same documents."""
    command = [sys.executable, "-m", "protocol.schema"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run(command, check=True, capture_output=True, env=environment, cwd=COPIES.parent.parent)
    assert json.loads(printed.stdout) == {name: json.loads(text) for name, text in documents().items()}
    assert list(json.loads(printed.stdout)["asyncapi.json"]["channels"]) == list(asyncapi()["channels"])


def test_write_makes_the_copies(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--write` leaves exactly the documents in the folder."""
    monkeypatch.setattr("protocol.schema.COPIES", tmp_path / "schema")
    assert main(["--write"]) == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "schema").iterdir()}
    assert written == documents()


@pytest.mark.parametrize("make", [json_schema, asyncapi])
def test_every_reference_leads_somewhere(make: Any) -> None:
    """No `$ref` dangles."""
    document = make()
    for reference in _references(document):
        assert _at(document, reference)


def test_the_json_schema_is_one(jsonschema: Any) -> None:
    """It is valid draft 2020-12, and describes every event."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {kind.__name__ for kind in get_args(Event)} <= schema["$defs"].keys()
    assert schema["$defs"]["InputTextAppend"]["properties"]["text"]["maxLength"] == MAX_TEXT_CHARS


@pytest.mark.parametrize("kind", get_args(Event), ids=wire_type)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_what_we_send_fits_the_schema(jsonschema: Any, kind: Any, data: st.DataObject) -> None:
    """Every encoded event validates against the schema of its own type."""
    schema = json_schema()
    event: Any = data.draw(st.from_type(kind))
    sent = encode(event)
    if len(sent) <= MAX_EVENT_BYTES:
        jsonschema.Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{kind.__name__}"}).validate(
            json.loads(sent)
        )


@pytest.mark.parametrize(
    "event",
    [
        {"type": "input_text.append"},
        {"type": "input_text.sing", "text": "a"},
        {"type": "session.create", "session": {"policy": {"k": 3}}},
        {"type": "session.create", "session": {"policy": {"type": "wait-k", "k": 0}}},
    ],
)
def test_the_schema_refuses_what_the_decoder_refuses(jsonschema: Any, event: Any) -> None:
    """A client that validates by schema learns the same as from the worker."""
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(event)


def test_the_asyncapi_document_covers_every_event_once() -> None:
    """Each event is a message, each message is in exactly one channel."""
    document = asyncapi()
    in_channels = [name for channel in document["channels"].values() for name in channel["messages"]]
    assert sorted(in_channels) == sorted(document["components"]["messages"]) == sorted({*TYPES, "bell"})


@pytest.mark.parametrize(
    ("channel", "union"), [("source", ClientEvent), ("target", ServerEvent)], ids=["source", "target"]
)
def test_a_stream_lists_its_events(channel: str, union: Any) -> None:
    """A session's channels carry what the decoder of that stream takes."""
    assert set(asyncapi()["channels"][channel]["messages"]) == {wire_type(kind) for kind in get_args(union)}


def test_addresses_are_the_keys_in_use() -> None:
    """Filling an address's parameters gives the key that the programs use."""
    channels = asyncapi()["channels"]
    assert channels["source"]["address"].replace("{sessionTag}", "{talk-1}") == keys.source_key("talk-1")
    assert channels["target"]["address"].replace("{sessionTag}", "{talk-1}") == keys.target_key("talk-1")
    bell, configure, stats = (
        channels[name]["address"].replace("{workersTag}", "{workers}") for name in ("bell", "configure", "stats")
    )
    assert bell.replace("{shard}", "3") == keys.bell_key(3)
    assert (configure, stats) == (keys.CONFIGURE_KEY, keys.STATS_KEY)


def test_the_redis_field_of_each_stream_is_named() -> None:
    """A raw client learns which field of an entry to write."""
    fields = {name: channel["x-redis"]["field"] for name, channel in asyncapi()["channels"].items()}
    assert fields.pop("bell") == keys.BELL_FIELD
    assert set(fields.values()) == {keys.EVENT_FIELD}


def test_the_worker_receives_what_others_write_and_sends_the_rest() -> None:
    """Operations are seen from the worker; no channel is left without one."""
    operations = asyncapi()["operations"].values()
    directions = {operation["channel"]["$ref"].rpartition("/")[2]: operation["action"] for operation in operations}
    receives = dict.fromkeys(("source", "bell", "configure"), "receive")
    assert directions == {**receives, "target": "send", "stats": "send"}


def test_the_component_schemas_are_valid_and_free_of_openapi(jsonschema: Any) -> None:
    """Each payload schema is valid draft 7, AsyncAPI's base; a `discriminator` object would not be AsyncAPI."""
    for schema in asyncapi()["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
        assert '"discriminator"' not in json.dumps(schema)


def test_worker_events_have_streams_of_their_own() -> None:
    """Configuration flows in, statistics flow out."""
    channels = asyncapi()["channels"]
    assert {*channels["configure"]["messages"], *channels["stats"]["messages"]} == {
        wire_type(kind) for kind in get_args(WorkerEvent)
    }
