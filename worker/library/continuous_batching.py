"""`AsyncContinuousBatchingEngine`: prompts join and leave at any pass; the names are those of MLX ParaLLM."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Lock
from time import perf_counter
from typing import Any

import msgspec

from protocol import Sampling
from worker.core.rows import Lane
from worker.core.scheduler import Budget
from worker.core.segment import Segment
from worker.engine.errors import EngineError
from worker.engine.model import StreamingModel
from worker.engine.speculative.runner import Drafter
from worker.engine.thread import shared_thread
from worker.library.completions import Completions, Generation
from worker.library.ordinary import ordinary_prompt
from worker.library.running import new_runner
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
    answer: Future[Generation]
    since_s: float


class AsyncContinuousBatchingEngine:
    """An engine that answers the prompts of all calls in shared passes; `load` returns `model` and `tokenizer`.

    Call it from any number of event loops and threads at once: passes run on the library's thread, in turn with other
    uses of its models. Drafts come from `drafter` (a `DraftModel`) if given, else from the texts themselves.
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
        runner = new_runner(model, self._vocabulary)
        budget = Budget(
            max_rows=self.config.max_batch_size,
            max_draft_tokens=self.config.max_draft_tokens,
            has_drafter=drafter is not None,
        )
        runner = runner if drafter is None else runner.with_drafter(drafter)
        self._completions = Completions(runner.passes, self._vocabulary, budget)
        self._working: dict[Lane, _Request] = {}  # touched by the library's thread alone
        self._waiting: deque[_Request] = deque()
        self._is_serving = False
        self._lock = Lock()  # for the two before

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
        # Behind the calls that begin together with this one, so that all are read in one pass.
        asyncio.get_running_loop().call_soon(self._start)
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, answers))
        finally:
            for answer in answers:
                answer.cancel()

    def _ask(self, prompt: Segment) -> Future[Generation]:
        request = _Request(prompt, Future(), perf_counter())
        with self._lock:
            self._waiting.append(request)
        return request.answer

    def _start(self) -> None:
        with self._lock:
            is_idle, self._is_serving = not self._is_serving, True
        if is_idle:
            shared_thread().post(self._serve)

    # On the library's thread

    def _serve(self) -> None:
        # Run one pass, and come again behind the calls of others until every prompt has its answer.
        try:
            self._admit()
            self._run_pass()
        except Exception as error:  # a pass reports the failure of one prompt; this error ends all of them
            self._fail(error)
        with self._lock:
            self._is_serving = bool(self._waiting or self._working)
            if self._is_serving:
                shared_thread().post(self._serve)

    def _run_pass(self) -> None:
        ended = self._completions.run_pass()
        for lane in [lane for lane, request in self._working.items() if request.answer.done() and lane not in ended]:
            del self._working[lane]
            self._completions.drop(lane)
        if len(ended) == len(self._working):
            self._completions.run_pass()  # frees the last lanes
        for lane, outcome in ended.items():
            self._resolve(self._working.pop(lane), outcome)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            requests = [*self._working.values(), *self._waiting]
            self._waiting.clear()
        for lane in self._working:
            self._completions.drop(lane)
        self._working.clear()
        for request in requests:
            self._resolve(request, f"{type(error).__name__}: {error}")

    def _admit(self) -> None:
        for request in self._admitted():
            if not request.answer.done():
                self._working[request.prompt.lane] = request
                self._completions.add(request.prompt)

    def _admitted(self) -> Iterable[_Request]:
        # The waiting requests that join the next pass.
        with self._lock:
            room = self.config.max_batch_size - len(self._working)
            if not self._waiting or room < 1:
                return []
            has_waited = perf_counter() - self._waiting[0].since_s >= self.config.timeout_ms / 1000
            if self._working and len(self._waiting) < room and not has_waited:
                return []
            return [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]

    def _resolve(self, request: _Request, outcome: Segment | str) -> None:
        with suppress(InvalidStateError):  # its caller has left
            if isinstance(outcome, str):
                request.answer.set_exception(EngineError(f"the engine failed on this prompt: {outcome}"))
            else:
                request.answer.set_result(self._completions.answer(outcome, request.since_s))

    def stats(self) -> dict[str, Any]:
        """Return `total_requests`, `average_latency` (s), `batching_stats`, `speculative_stats` of all calls so far."""
        return self._completions.stats()
