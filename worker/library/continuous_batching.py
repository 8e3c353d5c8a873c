"""`AsyncContinuousBatchingEngine`: prompts join and leave at any pass; the names are those of MLX ParaLLM."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import msgspec

from protocol import Sampling
from worker.core.rows import Lane
from worker.core.scheduler import Budget
from worker.core.segment import Segment
from worker.engine import end_thread
from worker.engine.errors import EngineError
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.speculative.runner import Drafter, SpeculativeRunner
from worker.library.completions import Completions, CountingEngine, Generation
from worker.library.ordinary import ordinary_prompt
from worker.library.vocabulary import vocabulary_of


class BatchConfig(msgspec.Struct, kw_only=True):
    """The number of prompts in one pass, and how long a new prompt may wait for others to be read with it."""

    max_batch_size: int = 8
    timeout_ms: float = 50
    max_draft_tokens: int = 4  # 0: no drafts

    def __post_init__(self) -> None:
        """Raise ValueError for a number that is out of range."""
        if self.max_batch_size < 1 or self.timeout_ms < 0 or not 0 <= self.max_draft_tokens <= 64:
            raise ValueError(
                "expected a max_batch_size of at least 1, a timeout_ms of at least 0 and 0 to 64 max_draft_tokens, got "
                f"{self.max_batch_size}, {self.timeout_ms} and {self.max_draft_tokens}"
            )


class _Request(msgspec.Struct):
    """A prompt, the future of its answer, and the time of the call in seconds."""

    prompt: Segment
    answer: asyncio.Future[Generation]
    since_s: float


class AsyncContinuousBatchingEngine:
    """An engine that answers the prompts of all calls in shared passes; `load` returns `model` and `tokenizer`.

    Passes run on a thread of their own, which ends with the last prompt; until then, use the model nowhere else. Call
    from one event loop at a time. Drafts come from `drafter` (a `DraftModel`) if given, else from the texts themselves.
    """

    def __init__(
        self,
        model: StreamingModel,
        tokenizer: Any,
        batch_config: BatchConfig | None = None,
        *,
        drafter: Drafter | None = None,
    ) -> None:
        self.config = batch_config or BatchConfig()
        self._vocabulary = vocabulary_of(tokenizer)
        runner = Runner(model, self._vocabulary)
        engine: CountingEngine = runner if drafter is None else SpeculativeRunner(runner, drafter)
        budget = Budget(
            max_rows=self.config.max_batch_size,
            max_draft_tokens=self.config.max_draft_tokens,
            has_drafter=drafter is not None,
        )
        self._completions = Completions(engine, self._vocabulary, budget)
        self._waiting: deque[_Request] = deque()
        self._serving: asyncio.Task[None] | None = None

    async def generate_batch(
        self,
        prompts: Sequence[str],
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_p: float = 1.0,
        *,
        repetition_penalty: float | None = None,
        seed: int = 0,
    ) -> list[Generation]:
        """Return the answer to each prompt, the same tokens as if it were alone.

        An idle engine starts at once. While others write, new prompts are read together: at the next pass if they fill
        the batch, else when the first of them has waited for `timeout_ms`.
        Raises ValueError for prompts that the model cannot take (then it answers none of them), EngineError.
        """
        sampling = Sampling(temperature=temperature, top_p=top_p, repetition_penalty=repetition_penalty, seed=seed)
        most = self.config.max_draft_tokens
        segments = [
            ordinary_prompt(self._vocabulary, text, max_tokens=max_tokens, sampling=sampling, max_draft_tokens=most)
            for text in prompts
        ]
        answers = [self._ask(segment) for segment in segments]
        try:
            return await asyncio.gather(*answers)
        finally:
            for answer in answers:
                answer.cancel()

    def _ask(self, prompt: Segment) -> asyncio.Future[Generation]:
        loop = asyncio.get_running_loop()
        request = _Request(prompt, loop.create_future(), perf_counter())
        self._waiting.append(request)
        if self._serving is None or self._serving.done():
            self._serving = loop.create_task(self._serve())
        return request.answer

    async def _serve(self) -> None:
        # Run passes until every prompt has its answer.
        loop = asyncio.get_running_loop()
        working: dict[Lane, _Request] = {}
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as thread:
            try:
                while self._waiting or working:
                    self._admit(working)
                    for lane, outcome in (await loop.run_in_executor(thread, self._completions.run_pass)).items():
                        self._resolve(working.pop(lane), outcome)
                    self._drop_cancelled(working)
            except Exception as error:  # a pass reports the failure of one prompt; this error ends all of them
                self._fail([*working.values(), *self._waiting], error)
                self._waiting.clear()
            finally:  # also if the event loop ends in the middle of a pass
                thread.submit(self._end, list(working))

    def _end(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._completions.drop(lane)
        self._completions.run_pass()
        end_thread()

    def _fail(self, requests: Iterable[_Request], error: Exception) -> None:
        for request in requests:
            self._resolve(request, f"{type(error).__name__}: {error}")

    def _admit(self, working: dict[Lane, _Request]) -> None:
        room = self.config.max_batch_size - len(working)
        if not self._waiting or room < 1:
            return
        has_waited = perf_counter() - self._waiting[0].since_s >= self.config.timeout_ms / 1000
        if working and len(self._waiting) < room and not has_waited:
            return
        for _ in range(min(room, len(self._waiting))):
            request = self._waiting.popleft()
            if not request.answer.done():
                working[request.prompt.lane] = request
                self._completions.add(request.prompt)

    def _resolve(self, request: _Request, outcome: Segment | str) -> None:
        if request.answer.done():
            return
        if isinstance(outcome, str):
            request.answer.set_exception(EngineError(f"the engine failed on this prompt: {outcome}"))
        else:
            request.answer.set_result(self._completions.answer(outcome, request.since_s))

    def _drop_cancelled(self, working: dict[Lane, _Request]) -> None:
        for lane in [lane for lane, request in working.items() if request.answer.done()]:
            del working[lane]
            self._completions.drop(lane)

    def stats(self) -> dict[str, Any]:
        """Return `total_requests`, `average_latency` (s), `batching_stats`, `speculative_stats` of all calls so far."""
        return self._completions.stats()
