"""The memory of sessions, by length of their texts."""

import gc
import sys
from collections.abc import Sequence
from itertools import chain, cycle, islice
from types import ModuleType
from typing import Any, Final

import msgspec

from protocol import InputTextAppend, InputTextFinalize
from worker.commands.bench.models import Harness
from worker.commands.bench.page import Sheet
from worker.commands.bench.sessions import hear, write
from worker.commands.talk import Words
from worker.core.rows import Row, SampleSpec
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.core.state import State
from worker.library.running import lane_numbers

_LONG_WORDS: Final = 1_000


class Memory(msgspec.Struct, frozen=True):
    """The bytes of a session: its Python objects, and its keys and values in the engine."""

    between_turns_bytes: int
    between_turns_kv_bytes: int
    within_turn_bytes: int  # all words of a sentence heard but its last
    within_turn_kv_bytes: int
    long_kv_bytes: int  # 1,000 source words read in one segment


def memory_of(harness: Harness, sessions: Sessions, sentences: Sequence[Words]) -> Memory:
    """Return the mean over sessions without an open sentence."""
    between = _mean_bytes(sessions), _kv_bytes(harness, sessions)
    longest = max(sentences, key=len)
    for name in sessions:
        hear(sessions, name, InputTextAppend(text=" ".join(longest[:-1] or longest)))
    while write(sessions, harness.engine) is not None:
        pass
    within = _mean_bytes(sessions), _kv_bytes(harness, sessions)
    for name in sessions:
        hear(sessions, name, InputTextFinalize())
    while write(sessions, harness.engine) is not None:
        pass
    return Memory(*between, *within, _long_bytes(harness, sentences))


def _long_bytes(harness: Harness, sentences: Sequence[Words]) -> int:
    words = islice(cycle(chain.from_iterable(sentences)), _LONG_WORDS)
    tokens = tuple(token for word in words for token in harness.vocabulary.encode_word(word, "x"))
    lane, before, step = (next(lane_numbers), 0), harness.runner.kv_bytes(), Budget().max_source_tokens
    for start in range(0, len(tokens), step):
        harness.runner.run([Row(lane, tokens[start : start + step], (), 0, 0, SampleSpec())])
    held = harness.runner.kv_bytes() - before
    harness.runner.run((), dropped=[lane])
    return held


def _kv_bytes(harness: Harness, sessions: Sessions) -> int:
    return harness.runner.kv_bytes() // len(sessions)


def _mean_bytes(sessions: Sessions) -> int:
    return sum(_deep_bytes(sessions.get(name)) for name in sessions) // len(sessions)


def _deep_bytes(state: State | None) -> int:
    seen: dict[int, Any] = {}
    waiting: list[Any] = [state]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen and not isinstance(value, type | ModuleType):
            seen[id(value)] = value
            waiting += gc.get_referents(value)
    return sum(map(sys.getsizeof, seen.values()))


def memory_sheet(memory: Memory) -> Sheet:
    """Lay the memory out as a table."""
    rows = (
        ("a session between turns", _size(memory.between_turns_bytes), _size(memory.between_turns_kv_bytes)),
        ("a session within a sentence", _size(memory.within_turn_bytes), _size(memory.within_turn_kv_bytes)),
        (f"{_LONG_WORDS:,} source words of one segment", "", _size(memory.long_kv_bytes)),
    )
    return Sheet(("", "state", "keys and values"), rows, title="Memory")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1024:,.1f} KiB" if num_bytes < 2**20 else f"{num_bytes / 2**20:,.1f} MiB"
