"""`SpeculativeDecodingEngine`: one prompt at a time, drafted by a smaller model; the names are those of MLX ParaLLM."""

from threading import Lock
from typing import Any

import msgspec

from protocol import Sampling
from worker.core.scheduler import Budget
from worker.engine.errors import EngineError
from worker.engine.loading import load_vocabulary, model_path
from worker.engine.speculative.draft_model import DraftModel
from worker.engine.thread import shared_thread
from worker.library.completions import Completions, Generation, complete
from worker.library.ordinary import ordinary_prompt
from worker.library.running import load, runner_of


class SpeculativeConfig(msgspec.Struct, kw_only=True):
    """The models, by directory, GGUF file, hub id or shipped name, and the most tokens that are drafted at once.

    `draft_model_path` None: drafts come from the prompt and the answer themselves. `use_speculative` False: no drafts.
    """

    draft_model_path: str | None = None
    target_model_path: str = "starter"
    max_draft_tokens: int = 5
    use_speculative: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a number that is out of range."""
        if not 1 <= self.max_draft_tokens <= 64:
            raise ValueError(f"max_draft_tokens is 1 to 64, got {self.max_draft_tokens}")


class SpeculativeDecodingEngine:
    """A model and its draft model, for any number of threads: they take turns.

    Raises ModelNotFound, and UnsupportedModel, also if their tokenizers differ.
    """

    def __init__(self, config: SpeculativeConfig) -> None:
        self.config = config
        model, self.tokenizer = load(config.target_model_path)
        self._vocabulary = load_vocabulary(config.target_model_path, self.tokenizer)
        runner = runner_of(model, self._vocabulary)
        has_drafter = config.use_speculative and config.draft_model_path is not None
        if has_drafter and config.draft_model_path is not None:
            model_path(config.draft_model_path)  # while it downloads, other models are in use
            drafter = shared_thread().run(DraftModel.load, config.draft_model_path, self._vocabulary)
            runner = runner.with_drafter(drafter)
        budget = Budget(max_draft_tokens=config.max_draft_tokens, has_drafter=has_drafter)
        self._completions = Completions(runner, self._vocabulary, budget)
        self._lock = Lock()

    def generate(
        self,
        prompt: str,
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_p: float = 1.0,
        *,
        repetition_penalty: float | None = None,
        seed: int = 0,
    ) -> Generation:
        """Return the answer, the same tokens as the target model's alone; the same seed gives the same answer.

        Raises ValueError for a prompt that the model cannot take, EngineError.
        """
        sampling = Sampling(temperature=temperature, top_p=top_p, repetition_penalty=repetition_penalty, seed=seed)
        most = self.config.max_draft_tokens if self.config.use_speculative else 0
        segment = ordinary_prompt(
            self._vocabulary, prompt, max_tokens=max_tokens, sampling=sampling, max_draft_tokens=most
        )
        with self._lock:
            answer = complete(self._completions, [segment])[0]
        if isinstance(answer, str):
            raise EngineError(f"the engine failed on this prompt: {answer}")
        return answer

    def stats(self) -> dict[str, Any]:
        """Return `total_requests`, `average_latency` (s), `batching_stats`, `speculative_stats` of all calls so far."""
        return self._completions.stats()
