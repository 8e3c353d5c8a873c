"""An engine that answers at once with the source itself, so that only the transport is measured."""

from collections.abc import Iterable, Sequence
from typing import Final

from protocol import DEFAULT_POLICY, Limits, Session, WaitK
from worker.app.engine import Engine
from worker.core.rows import Lane, Output, Prompt, Row, Tokens
from worker.engine.adapters.compatibility import Compatibility
from worker.engine.runner import Counters
from worker.engine.text.card import Card
from worker.engine.thread import EngineThread

_EOS, _TAG, _END, _START = range(4)
_LONGEST: Final = 2_000_000
SESSION: Final = Session(policy=WaitK(k=1), limits=Limits(max_tokens_per_word=1))
"""The options of a session that writes a word for each word that it reads."""


def null_engine() -> Engine:
    """Return an engine on a thread of its own, like a model's. Its source words are numbers, each one token."""
    able = Compatibility(batches_rows=True, shows_attention=False)
    return Engine(EngineThread(), _Echo(), _Numbers(), description="null engine", card=Card(), compatibility=able)


class _Numbers:
    """A vocabulary of numbers from 4 on; a word's token is its number."""

    eos_tokens = frozenset({_EOS})
    default_policy = DEFAULT_POLICY

    def prompt(self, session: Session) -> Prompt:
        return Prompt(
            source=(_TAG,), end=(_END,), target=(_START,), max_source_tokens=_LONGEST, max_target_tokens=_LONGEST
        )

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        return (int(word),)

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(str(token) for token in tokens)


class _Echo:
    """A runner whose lanes hold their source tokens; the target token after n words is source word n."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._lanes: dict[Lane, list[int]] = {}

    def kv_bytes(self) -> int:
        return 0

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        for lane in dropped:
            self._lanes.pop(lane, None)
        self.counters.passes += 1
        self.counters.forwards += len(rows)
        return tuple(self._row(row) for row in rows)

    def _row(self, row: Row) -> Tokens:
        source = self._lanes.setdefault(row.lane, [])
        source.extend(row.source)
        if not row.target:
            return Tokens()
        # The prompts of both sides are one token long, so a word has the same position in source and target.
        start = row.target_start + len(row.target) - row.num_drafts
        answer = [_EOS if token == _END else token for token in source[start : start + row.num_drafts + 1]]
        return Tokens(tuple(answer + [_EOS] * (row.num_drafts + 1 - len(answer))))
