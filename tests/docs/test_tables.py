"""The tables of the pages are those of the code, and what is quoted stands where it was measured."""

import argparse
import json
import re
from typing import Any, get_args

import msgspec
import pytest

from protocol import (
    POLICY_FORMS,
    ClientEvent,
    Policy,
    ServerEvent,
    Session,
    diagram,
    keys,
    parse_policy,
    policy_name,
    wire_type,
)
from protocol.errors import REMEDIES
from tests.docs.pages import OPERATIONS, README, ROOT, WIRE, page
from worker.app.config import Settings
from worker.commands import serve
from worker.io.metrics import Metrics


@pytest.mark.parametrize(("title", "union"), [("client event", ClientEvent), ("server event", ServerEvent)])
def test_events(title: str, union: Any) -> None:
    """The table has all events and all their fields."""
    shown = {row[0]: set(re.findall(r"`?(\w+)`?", row[1])) for row in WIRE.table(title)}
    assert shown == {wire_type(event): set(event.__struct_fields__) for event in get_args(union)}


def test_error_codes() -> None:
    """The table has all codes with their remedies."""
    shown = {row[0]: row[1] for row in WIRE.table("error code")}
    assert shown == {code.value: text for code, text in REMEDIES.items()}


def test_keys() -> None:
    """The table has all keys, by the names that the code gives them."""
    of_session = {key("ID") for key in (keys.source_key, keys.target_key, keys.state_key)}
    of_shard = {key(0).replace("0", "N") for key in (keys.bell_key, keys.lease_key, keys.index_key)}
    of_workers = {keys.CONFIGURE_KEY, keys.STATS_KEY, keys.LIVE_KEY, keys.FREED_KEY, keys.SHARDS_KEY, keys.DEAD_KEY}
    of_workers |= {keys.HEARD_KEY, keys.wake_key("ID")}
    assert {row[0] for row in WIRE.table("key")} == of_session | of_shard | of_workers
    assert f"crc32(ID) mod {keys.NUM_SHARDS}" in WIRE.text


def test_the_order_of_events() -> None:
    """The diagram is the one that the table of the code draws."""
    assert diagram() in [block.text for block in WIRE.blocks if block.language == "mermaid"]


def test_session_options() -> None:
    """The table has all options of a session with their defaults."""
    expected: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(Session()).items():
        inner = {} if not isinstance(value, dict) else {f"{name}.{key}": part for key, part in value.items()}
        expected |= inner or {name: value}
    assert {row[0]: json.loads(row[1]) for row in WIRE.table("option")} == expected


def test_policies() -> None:
    """Each policy of the wire has a row, where its JSON and its name are the same policy; the worker's page has all."""
    shown = [(msgspec.json.decode(row[0], type=Policy), row[1]) for row in WIRE.table("policy")]
    assert [policy_name(policy) for policy, _ in shown] == [name for _, name in shown]
    assert [parse_policy(name) for _, name in shown] == [policy for policy, _ in shown]
    tags = {wire_type(kind) for kind in get_args(Policy)}
    assert {wire_type(type(policy)) for policy, _ in shown} == tags
    assert {row[0] for row in page("worker/README.md").table("policy")} == tags
    assert all(tag.partition("-k")[0] in POLICY_FORMS for tag in tags)


def test_settings() -> None:
    """The table has all settings of a worker with their defaults and their options, and no variable is left out."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    options = {action.dest: action.option_strings[-1] for action in parser._actions}
    rows = {row[0]: row[1:3] for row in OPERATIONS.table("variable")}
    for field in msgspec.structs.fields(Settings):
        default, option = rows.pop(f"DECALAGE_{field.name.upper()}")
        assert (json.loads(default), option.strip("`")) == (field.default, options.get(field.name, ""))
    sources = [path.read_text() for name in ("producers", "worker") for path in (ROOT / name).rglob("*.py")]
    known = {variable for source in sources for variable in re.findall(r"\bDECALAGE_[A-Z_]*[A-Z]\b", source)}
    assert set(rows) == known - {f"DECALAGE_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}


def test_metrics() -> None:
    """The page names all metrics, as Prometheus sees them, and none that is not there."""
    families = Metrics().registry.collect()
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    shown = [set(re.findall(r"decalage_\w+", row[1])) for row in OPERATIONS.table("about")]
    assert set().union(*shown) == exposed
    assert f"127.0.0.1:{Settings().metrics_port}/metrics" in OPERATIONS.text


def test_scores_are_those_of_the_model() -> None:
    """The page of the models quotes only what the shipped model's own page states."""
    _, _, rest = page("worker/models/README.md").text.partition("\n## The shipped model\n")
    quoted = re.findall(r"\b\d+\.\d\b", rest.partition("\n## ")[0])
    own = page("worker/models/starter/README.md").text
    assert quoted
    assert [score for score in quoted if score not in own] == []


def test_the_headline_figures_are_measured() -> None:
    """The first page has five, and every number in them stands where all are told."""
    rows = README.table("what")
    told = page("deploy/benchmarks.md").text + page("worker/models/starter/README.md").text
    assert len(rows) == 5
    assert [number for row in rows for number in re.findall(r"\d+(?:\.\d+)?", row[1]) if number not in told] == []
