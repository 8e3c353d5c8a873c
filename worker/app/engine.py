"""The service's engine: a model on the thread that loads it and runs every pass."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from worker.core.rows import Lane, Output, Row, Vocabulary
from worker.engine.adapters.compatibility import Compatibility
from worker.engine.errors import UnsupportedModel
from worker.engine.loading import load, load_vocabulary
from worker.engine.runner import Counters, Runner
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.speculative.runner import PassRunner, SpeculativeRunner
from worker.engine.text.card import Card
from worker.engine.text.prompts import UnknownPrompts
from worker.engine.thread import EngineThread


class EngineDead(Exception):
    """The engine's thread has died; calls in progress will not return."""


class Report(msgspec.Struct, frozen=True):
    """The engine's counters and KV bytes after a pass."""

    counters: Counters
    kv_bytes: int


class Engine:
    """A model on its thread. `vocabulary` may be used from any thread: it needs no mlx."""

    def __init__(
        self,
        thread: EngineThread,
        runner: PassRunner,
        vocabulary: Vocabulary,
        *,
        description: str,
        card: Card,
        compatibility: Compatibility,
    ) -> None:
        self._thread = thread
        self._runner = runner
        self.has_drafter = isinstance(runner, SpeculativeRunner)
        self.vocabulary = vocabulary
        self.description = description
        self.card = card
        self.compatibility = compatibility

    @property
    def is_alive(self) -> bool:
        """Whether its thread can still run passes."""
        return self._thread.is_alive

    @classmethod
    async def start(
        cls, model: str, draft_model: str = "", max_kv_bytes: int | None = None, *, kv_bits: int = 0
    ) -> "Engine":
        """Load the models; keep the keys and values of `model` in `kv_bits`, within `max_kv_bytes`.

        Raises what `load` raises, UnsupportedModel for a model without a prompt and a draft model with another
        tokenizer.
        """
        thread = EngineThread()
        try:
            return await thread.call(lambda: cls._load(thread, model, draft_model, max_kv_bytes, kv_bits=kv_bits))
        except BaseException:
            thread.leave()
            raise

    @classmethod
    def _load(
        cls, thread: EngineThread, name: str, draft_model: str, max_kv_bytes: int | None, *, kv_bits: int
    ) -> "Engine":
        model, tokenizer = load(name)
        vocabulary = load_vocabulary(name, tokenizer)
        if isinstance(vocabulary.prompts, UnknownPrompts):  # each session would be refused
            raise UnsupportedModel(vocabulary.prompts.reason)
        runner = Runner(model, vocabulary, max_kv_bytes, kv_bits=kv_bits)
        drafted = SpeculativeRunner(runner, DraftModel.load(draft_model, vocabulary)) if draft_model else None
        return cls(
            thread,
            drafted or runner,
            vocabulary,
            description=repr(model),
            card=vocabulary.card,
            compatibility=runner.compatibility,
        )

    def check(self) -> None:
        """Raise EngineDead if the thread has died."""
        if not self.is_alive:
            raise EngineDead("the engine's thread has died; another worker goes on with the sessions: start one")

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane]) -> "asyncio.Future[tuple[Sequence[Output], Report]]":
        """Begin a pass, the lanes in `dropped` freed first, and return the future of what each row has sampled.

        Raises EngineDead.
        """
        self.check()
        return self._thread.call(self._run, rows, tuple(dropped))

    def _run(self, rows: Sequence[Row], dropped: tuple[Lane, ...]) -> tuple[Sequence[Output], Report]:
        sampled = self._runner.run(rows, dropped)
        return sampled, Report(msgspec.structs.replace(self._runner.counters), self._runner.kv_bytes())

    def stop(self) -> None:
        """Wait for the pass that runs, free the model and end the thread."""
        self._thread.end(self._release)

    def _release(self) -> None:
        del self._runner
