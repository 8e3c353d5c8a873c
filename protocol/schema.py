"""JSON Schema and AsyncAPI of the wire, generated from the Structs and the key names.

    python -m protocol.schema            print both
    python -m protocol.schema --write    write the committed copies in protocol/schema/

Components are in the order in which the events name them: the same Structs always give the same text.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

import msgspec

from protocol import keys
from protocol.events import (
    WIRE_VERSION,
    ClientEvent,
    ServerEvent,
    WorkerConfigure,
    WorkerEvent,
    WorkerStats,
    wire_type,
)

Json: TypeAlias = dict[str, Any]

COPIES: Final = Path(__file__).with_name("schema")
"""The folder of the committed copies."""

_UNIONS: Final = {"ClientEvent": ClientEvent, "ServerEvent": ServerEvent, "WorkerEvent": WorkerEvent}
_BELL: Final = "bell"


def json_schema() -> Json:
    """Return a JSON Schema (2020-12) of all events; `$defs` holds every Struct, and the unions by stream."""
    unions, components = msgspec.json.schema_components(list(_UNIONS.values()), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Decalage events, wire version {WIRE_VERSION}",
        "description": "One event: the JSON in one entry of a source, target or worker stream.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in _UNIONS],
        "$defs": {**dict(zip(_UNIONS, unions, strict=True)), **components},
    }


def asyncapi() -> Json:
    """Return an AsyncAPI 3.0 document: streams, messages and operations, as the worker sees them."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Decalage",
            "version": f"{WIRE_VERSION}.0.0",
            "description": "Simultaneous translation over Redis streams: source words in, target words out.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": {
            "receiveSource": _operation("receive", "source", "Read what clients send."),
            "sendTarget": _operation("send", "target", "Publish translations; append-only."),
            "receiveBell": _operation("receive", "bell", "Learn which sessions of a shard have new entries."),
            "receiveConfigure": _operation("receive", "configure", "Apply new settings."),
            "sendStats": _operation("send", "stats", "Report what this worker has done."),
        },
        "components": {"messages": _messages(), "schemas": _schemas(), "parameters": _parameters()},
    }


def _channels() -> Json:
    source, target = (key_of("ID").replace("{ID}", "{sessionTag}") for key_of in (keys.source_key, keys.target_key))
    bell, configure, stats = (
        key.replace("{workers}", "{workersTag}")
        for key in (keys.bell_key(0).replace("0", "{shard}"), keys.CONFIGURE_KEY, keys.STATS_KEY)
    )
    changes, reports = [wire_type(WorkerConfigure)], [wire_type(WorkerStats)]
    return {
        "source": _channel(source, "What the clients of one session send.", _types(ClientEvent), "sessionTag"),
        "target": _channel(
            target, "What the worker answers; entry ids are `<seq>-0`.", _types(ServerEvent), "sessionTag"
        ),
        "bell": _channel(
            bell, "Rung after each append to a source stream of the shard.", [_BELL], "workersTag", "shard"
        ),
        "configure": _channel(configure, "Settings for every worker, or for one.", changes, "workersTag"),
        "stats": _channel(stats, "What every worker reports.", reports, "workersTag"),
    }


def _channel(address: str, description: str, messages: list[str], *parameters: str) -> Json:
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in parameters},
        "x-redis": {"type": "stream", "field": keys.BELL_FIELD if messages == [_BELL] else keys.EVENT_FIELD},
    }


def _operation(action: str, channel: str, summary: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _messages() -> Json:
    messages = {wire_type(event): _message(event) for union in _UNIONS.values() for event in get_args(union)}
    messages[_BELL] = {
        "name": _BELL,
        "summary": "The session with this id has new source entries.",
        "contentType": "text/plain",
        "payload": {"type": "string", "pattern": keys.SESSION_ID_PATTERN},
    }
    return messages


def _message(event: type[msgspec.Struct]) -> Json:
    return {
        "name": wire_type(event),
        "summary": (event.__doc__ or "").partition("\n")[0],
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
    }


def _schemas() -> Json:
    events = [event for union in _UNIONS.values() for event in get_args(union)]
    _, components = msgspec.json.schema_components(events, ref_template="#/components/schemas/{name}")
    return {name: _plain(component) for name, component in components.items()}


def _plain(node: Any) -> Any:
    """Return the schema without OpenAPI's `discriminator` objects, which AsyncAPI spells as a string."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "discriminator"}
    return [_plain(item) for item in node] if isinstance(node, list) else node


def _parameters() -> Json:
    return {
        "sessionTag": {
            "description": "The session id in literal braces, Redis's hash tag: `{ID}`. "
            f"The id matches `{keys.SESSION_ID_PATTERN}`.",
            "examples": ["{talk-1}"],
        },
        "workersTag": {
            "description": "A literal hash tag, braces included: the workers' keys share one node of a cluster.",
            "enum": ["{workers}"],
        },
        "shard": {
            "description": f"crc32 of the session id modulo {keys.NUM_SHARDS}, or what `{keys.SHARDS_KEY}` holds.",
            "enum": [str(shard) for shard in range(keys.NUM_SHARDS)],
        },
    }


def _types(union: Any) -> list[str]:
    return [wire_type(event) for event in get_args(union)]


def documents() -> dict[str, str]:
    """Return the text of both documents by file name, as committed."""
    contents = {"events.schema.json": json_schema(), "asyncapi.json": asyncapi()}
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in contents.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print both documents as one JSON object, or with `--write` bring the committed copies up to date."""
    parser = argparse.ArgumentParser(prog="python -m protocol.schema", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {' and '.join(documents())} to {COPIES.name}/")
    if not parser.parse_args(arguments).write:
        json.dump({name: json.loads(text) for name, text in documents().items()}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    COPIES.mkdir(exist_ok=True)
    for name, text in documents().items():
        (COPIES / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
