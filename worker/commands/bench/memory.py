"""What sessions take in memory."""

import gc
import sys
from collections.abc import Sequence
from itertools import chain, cycle, islice
from types import ModuleType
from typing import Any, Final

import msgspec

from protocol import InputTextAppend, InputTextFinalize
from worker.commands.bench.models import Rig
from worker.commands.bench.page import Sheet
from worker.commands.bench.room import Room
from worker.commands.talk import Words
from worker.core.rows import Row, SampleSpec
from worker.core.scheduler import Budget
from worker.core.state import State
from worker.library.running import lane_numbers

_LONG_WORDS: Final = 1_000


class Memory(msgspec.Struct, frozen=True):
    """Bytes: what Python holds of a session, and the keys and values that the engine keeps for it."""

    between_turns_bytes: int
    between_turns_kv_bytes: int
    within_turn_bytes: int  # all words of a sentence heard but its last
    within_turn_kv_bytes: int
    long_kv_bytes: int  # 1,000 source words read in one segment


def memory_of(rig: Rig, room: Room, sentences: Sequence[Words]) -> Memory:
    """The mean over the sessions of a room, none of which has a sentence open."""
    between = _mean_bytes(room), _kv_bytes(rig, room)
    longest = max(sentences, key=len)
    for name in room.states:
        room.hear(name, InputTextAppend(text=" ".join(longest[:-1] or longest)))
    while room.tick() is not None:
        pass
    within = _mean_bytes(room), _kv_bytes(rig, room)
    for name in room.states:
        room.hear(name, InputTextFinalize())
    while room.tick() is not None:
        pass
    return Memory(*between, *within, _long_bytes(rig, sentences))


def _long_bytes(rig: Rig, sentences: Sequence[Words]) -> int:
    words = islice(cycle(chain.from_iterable(sentences)), _LONG_WORDS)
    tokens = tuple(token for word in words for token in rig.vocabulary.encode_word(word, "x"))
    lane, before, step = (next(lane_numbers), 0), rig.runner.kv_bytes(), Budget().max_source_tokens
    for start in range(0, len(tokens), step):
        rig.runner.run([Row(lane, tokens[start : start + step], (), 0, 0, SampleSpec())])
    held = rig.runner.kv_bytes() - before
    rig.runner.run((), dropped=[lane])
    return held


def _kv_bytes(rig: Rig, room: Room) -> int:
    return rig.runner.kv_bytes() // len(room.states)


def _mean_bytes(room: Room) -> int:
    return sum(map(_deep_bytes, room.states.values())) // len(room.states)


def _deep_bytes(state: State) -> int:
    seen: dict[int, Any] = {}
    waiting: list[Any] = [state]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and not isinstance(thing, type | ModuleType):
            seen[id(thing)] = thing
            waiting += gc.get_referents(thing)
    return sum(map(sys.getsizeof, seen.values()))


def memory_sheet(memory: Memory) -> Sheet:
    """How it looks."""
    rows = (
        ("a session between turns", _size(memory.between_turns_bytes), _size(memory.between_turns_kv_bytes)),
        ("a session within a sentence", _size(memory.within_turn_bytes), _size(memory.within_turn_kv_bytes)),
        (f"{_LONG_WORDS:,} source words of one segment", "", _size(memory.long_kv_bytes)),
    )
    return Sheet(("", "state", "keys and values"), rows, title="Memory")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1024:,.1f} KiB" if num_bytes < 2**20 else f"{num_bytes / 2**20:,.1f} MiB"
