"""Ordinary prompts answered by the scheduler and the engine, many in one pass, and their statistics."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from worker.core.rows import Engine, Failed, Lane
from worker.core.scheduler import Budget
from worker.core.segment import Segment, target_tokens
from worker.core.sessions import Sessions, run_pass
from worker.core.state import Segments, State
from worker.engine.runner import Counters
from worker.engine.text.tokenizer import Vocabulary


class CountingEngine(Engine, Protocol):
    """A runner with or without a drafter."""

    @property
    def counters(self) -> Counters:
        """The work done so far."""


class Generation(msgspec.Struct, frozen=True):
    """The answer to one prompt; `str()` returns its text. `stats` are the engine's at the end of the answer."""

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str  # "stop" at the end of the sequence, "length" at `max_tokens`
    latency: float  # seconds from the request to the answer
    stats: dict[str, Any]

    def __str__(self) -> str:
        return self.text


class Completions:
    """The prompts in work, each a session of one segment. Not for use by two threads at once."""

    def __init__(self, engine: CountingEngine, vocabulary: Vocabulary, budget: Budget) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._sessions = Sessions(vocabulary, "", budget)
        self._finished: dict[Lane, Segment | str] = {}  # prompts that need no pass, until they are reported
        self._before = replace(engine.counters)
        self._num_passes = self._num_rows = self._num_tokens = self._num_done = 0
        self._latency_s = 0.0

    @property
    def num_open(self) -> int:
        """The number of prompts without an answer."""
        return len(self._sessions) + len(self._finished)

    def add(self, prompt: Segment) -> None:
        """Add a prompt, as `ordinary_prompt` returns it, to all passes from the next one on."""
        if prompt.is_finished:
            self._finished[prompt.lane] = prompt
            return
        state = State(number=prompt.lane[0], segments=Segments(prompt), served_ms=self._num_passes)
        self._sessions.add(str(prompt.lane), state)

    def drop(self, lane: Lane) -> None:
        """Forget a prompt whose answer is no longer needed."""
        if self._finished.pop(lane, None) is None:
            self._sessions.forget(str(lane))

    def run_pass(self) -> dict[Lane, Segment | str]:
        """Run one pass for the prompts that have waited longest, as many as fit.

        Return each finished prompt's segment, or the reason of its failure. The next pass frees the lanes of finished
        prompts, even if it has no other work.
        """
        # Turns follow the number of passes, not a clock, so that the same prompts always share the same passes.
        updates = run_pass(self._sessions, self._engine, lambda: self._num_passes + 1) or []
        self._num_passes += bool(updates)
        self._num_rows += len(updates)
        done, self._finished = self._finished, {}
        for update in updates:
            if isinstance(update.output, Failed):
                done[update.row.lane] = update.output.error
            elif update.segment is not None and update.segment.is_finished:
                done[update.row.lane] = update.segment
            if update.row.lane in done:
                self.drop(update.row.lane)
        return done

    def answer(self, segment: Segment, asked_s: float) -> Generation:
        """Return the answer to a finished prompt; its latency counts from `asked_s` (`time.perf_counter`)."""
        tokens = target_tokens(segment, len(segment.prompt.target))
        latency_s = perf_counter() - asked_s
        self._num_done += 1
        self._num_tokens += len(tokens)
        self._latency_s += latency_s
        return Generation(
            text=self._vocabulary.decode(tokens).removeprefix(self._vocabulary.prompts.first_lead),
            tokens=tokens,
            prompt_tokens=len(segment.source.tokens) + len(segment.prompt.target),
            finish_reason=segment.finish_reason or "",
            latency=latency_s,
            stats=self.stats(),
        )

    def stats(self) -> dict[str, Any]:
        """Return the statistics so far: `average_latency` in seconds; a batch is a pass, its size counts prompts."""
        now, before = self._engine.counters, self._before
        proposed = now.proposed_drafts - before.proposed_drafts
        return {
            "total_requests": self._num_done,
            "average_latency": self._latency_s / max(1, self._num_done),
            "batching_stats": {
                "total_batches": self._num_passes,
                "avg_batch_size": self._num_rows / max(1, self._num_passes),
                "total_tokens": self._num_tokens,
            },
            "speculative_stats": {
                "acceptance_rate": (now.accepted_drafts - before.accepted_drafts) / max(1, proposed),
                "draft_length": proposed / max(1, now.drafted_rows - before.drafted_rows),
            },
        }


def complete(completions: Completions, prompts: Sequence[Segment]) -> list[Generation | str]:
    """Answer all prompts together; return the answer to each prompt, or the reason of its failure."""
    asked_s = perf_counter()
    for prompt in prompts:
        completions.add(prompt)
    answers: dict[Lane, Generation | str] = {}
    while completions.num_open:
        for lane, ended in completions.run_pass().items():
            answers[lane] = ended if isinstance(ended, str) else completions.answer(ended, asked_s)
    completions.run_pass()
    return [answers[prompt.lane] for prompt in prompts]
