"""The models of benchmarks: real ones, and random weights of well-known shapes."""

from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Final, NamedTuple

import mlx.core as mx
import msgspec
from msgspec.structs import replace

from worker.commands import translation
from worker.commands.bench.forced import Forced
from worker.core.rows import Engine
from worker.core.scheduler import Budget
from worker.core.sessions import Sessions
from worker.engine.loading import DEFAULT_MODEL
from worker.engine.model import StreamingModel
from worker.engine.runner import Counters, Runner
from worker.engine.speculative.runner import PassRunner
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import lane_numbers, runner_of

ARCHITECTURES: Final[dict[str, dict[str, Any]]] = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "rope_theta": 1_000_000.0,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "rope_theta": 100_000.0,
    },
}
_BUDGET: Final = Budget()


class Subject(msgspec.Struct, frozen=True):
    """The model that was measured."""

    name: str
    num_parameters: int
    dtype: str
    weights: str  # trained or random
    kv_bits: int  # of each number of a key or value; 0: as the model computes them

    def __str__(self) -> str:
        kind = ", random weights" if self.weights == "random" else ""
        kept = f", keys and values in {self.kv_bits} bits" if self.kv_bits else ""
        return f"{self.name} ({self.num_parameters / 1e6:.1f} M parameters, {self.dtype}{kind}{kept})"


class Harness(NamedTuple):
    """A loaded model for real text; rows run on `engine`."""

    subject: Subject
    runner: Runner  # of the measured model; its counters hold the cost
    author: PassRunner  # of the model that writes the words; its counters hold the accepted drafts
    engine: Engine
    vocabulary: Any
    clock_s: Callable[[], float]

    @property
    def layout(self) -> str:
        """The layout of its segments: group or contiguous."""
        return "contiguous" if self.vocabulary.card.is_contiguous else "group"

    def in_layout(self, layout: str | None) -> "Harness":
        """Return a harness on the same runner whose segments have this layout; None: the one they have.

        Its author was not trained to write in it: take the words that it writes in its own.
        """
        if layout in (None, self.layout):
            return self
        old = self.vocabulary
        card = replace(old.card, layout=layout)
        return self._replace(vocabulary=Vocabulary(old.tokenizer, card, max_positions=old.max_positions))

    def sessions(self, budget: Budget = _BUDGET) -> Sessions:
        """Return an empty set of sessions."""
        return Sessions(self.vocabulary, "", budget, numbers=lane_numbers)


class AnyTokens:
    """A vocabulary that allows every token everywhere, because the speed does not depend on the tokens."""

    def word_starts(self, size: int) -> mx.array:
        """Return True for every token, (V,) bool."""
        return mx.ones(size, mx.bool_)

    def forbidden(self, size: int) -> mx.array:
        """Return False for every token, (V,) bool."""
        return mx.zeros(size, mx.bool_)

    def line_breaks(self, size: int) -> mx.array:
        """Return False for every token, (V,) bool."""
        return mx.zeros(size, mx.bool_)

    def openings(self, size: int) -> mx.array:
        """Return True for every token, (V,) bool."""
        return mx.ones(size, mx.bool_)

    def introductions(self, size: int) -> mx.array:
        """Return False for every token, (V,) bool."""
        return mx.zeros(size, mx.bool_)


def random_model(shape: str) -> StreamingModel:
    """Return a model of that shape with random weights, the same ones each time."""
    module = import_module(f"mlx_lm.models.{ARCHITECTURES[shape]['model_type']}")
    mx.random.seed(0)
    config = {
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32_768,
        **ARCHITECTURES[shape],
    }
    inner = module.Model(module.ModelArgs.from_dict(config))
    mx.eval(inner.parameters())
    return StreamingModel(inner, name=shape)


def load(name: str, shape: str | None, kv_bits: int = 0) -> tuple[StreamingModel, Subject]:
    """Load the model of that name, or random weights if a shape is given. Raises EngineError."""
    model = translation.load_model(name).engine if shape is None else random_model(shape)
    return model, _subject(model, name, shape, kv_bits)


def bare_runner(model: StreamingModel, kv_bits: int = 0) -> Runner:
    """Return a runner that allows every token of the model."""
    return Runner(model, AnyTokens(), kv_bits=kv_bits)


def harness(name: str, shape: str | None, kv_bits: int = 0) -> Harness:
    """Load a model for text. Raises EngineError.

    Random weights write the words of the shipped model, with its tokens and accepted drafts, but not at its cost.
    """
    loaded = translation.load_model(name if shape is None else DEFAULT_MODEL)
    model, vocabulary = loaded.engine if shape is None else random_model(shape), loaded.vocabulary
    measured, subject = Runner(model, vocabulary, kv_bits=kv_bits), _subject(model, name, shape, kv_bits)
    if shape is None:
        return Harness(subject, measured, measured, measured, vocabulary, perf_counter)
    author = runner_of(loaded.engine, vocabulary)
    forced = Forced(measured, teacher=author)
    return Harness(subject, measured, author, forced, vocabulary, forced.clock_s)


def _subject(model: StreamingModel, name: str, shape: str | None, kv_bits: int) -> Subject:
    dtype = str(model.dtype).removeprefix("mlx.core.")
    return Subject(shape or name, model.num_parameters, dtype, "random" if shape else "trained", kv_bits)


def spent(before: Counters, runner: PassRunner) -> Counters:
    """Return the work of a runner since `before`."""
    after = runner.counters
    return Counters(*(getattr(after, name) - getattr(before, name) for name in Counters.__struct_fields__))
