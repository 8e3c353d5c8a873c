"""Ordinary prompts through the scheduler and the engine, many to a pass, with the figures that this makes."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from worker.core import drafting, scheduler, settling
from worker.core.rows import Lane, Row, Sampled
from worker.core.scheduler import Budget
from worker.core.segment import Segment
from worker.core.state import State
from worker.engine.runner import Counters
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import Engine


class CountingEngine(Engine, Protocol):
    """A runner, with a drafter or without."""

    @property
    def counters(self) -> Counters:
        """What it has done so far."""


class Generation(msgspec.Struct, frozen=True):
    """The answer to one prompt; `str()` of it is the text. `stats` are those of its engine when it was done."""

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    finish_reason: str  # "stop" at the end of the sequence, "length" at `max_tokens`
    latency: float  # seconds since it was asked for
    stats: dict[str, Any]

    def __str__(self) -> str:
        return self.text


class Completions:
    """Prompts that are being answered, each a session of one segment. Not for use by two threads at once."""

    def __init__(self, engine: CountingEngine, vocabulary: Vocabulary, budget: Budget) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._budget = budget
        self._states: dict[Lane, State] = {}
        self._dropped: list[Lane] = []
        self._before = replace(engine.counters)
        self._num_ticks = self._num_rows = self._num_tokens = self._num_done = 0
        self._latency_s = 0.0

    @property
    def num_open(self) -> int:
        """Prompts that are not answered yet."""
        return len(self._states)

    def add(self, prompt: Segment) -> None:
        """The prompt, as `ordinary_prompt` makes it, takes part in all passes from the next one on."""
        self._states[prompt.lane] = State(number=prompt.lane[0], segments=(prompt,), served_ms=self._num_ticks)

    def drop(self, lane: Lane) -> None:
        """Nobody waits for this prompt's answer any more."""
        if self._states.pop(lane, None) is not None:
            self._dropped.append(lane)

    def tick(self) -> dict[Lane, Segment | str]:
        """One pass for those that have waited longest, as many as fit: what it finished, or the fault of what failed.

        Lanes of finished prompts are freed by the next one, also by one that has nothing else to do.
        """
        plan = scheduler.plan({str(lane): state for lane, state in self._states.items()}, self._budget)
        dropped, self._dropped = self._dropped, []
        found = self._engine.run(plan.rows, dropped)
        self._num_ticks += bool(plan.rows)
        self._num_rows += len(plan.rows)
        done: dict[Lane, Segment | str] = {}
        for row, sampled in zip(plan.rows, found, strict=True):
            ended = self._settle(row, sampled)
            if ended is not None:
                done[row.lane] = ended
                self.drop(row.lane)
        return done

    def _settle(self, row: Row, sampled: Sampled) -> Segment | str | None:
        if sampled.fault is not None:
            return sampled.fault
        state = self._states[row.lane]
        before = state.segments[0]
        after, _ = settling.update(before, row, sampled, self._vocabulary)
        learned = drafting.learn(state.drafting, before, after, row, sampled)
        self._states[row.lane] = replace(state, segments=(after,), drafting=learned, served_ms=self._num_ticks)
        return after if after.is_finished else None

    def answer(self, segment: Segment, asked_s: float) -> Generation:
        """What a finished prompt says, and how long it took since `asked_s` of `time.perf_counter`."""
        tokens = segment.target[len(segment.prompt.target) :]
        latency_s = perf_counter() - asked_s
        self._num_done += 1
        self._num_tokens += len(tokens)
        self._latency_s += latency_s
        return Generation(
            text=self._vocabulary.decode(tokens).removeprefix(self._vocabulary.prompts.first_lead),
            tokens=tokens,
            prompt_tokens=len(segment.source) + len(segment.prompt.target),
            finish_reason=segment.finish_reason or "",
            latency=latency_s,
            stats=self.stats(),
        )

    def stats(self) -> dict[str, Any]:
        """The document's figures: `average_latency` in seconds; a batch is a pass, its size the prompts in it."""
        now, before = self._engine.counters, self._before
        proposed = now.proposed_drafts - before.proposed_drafts
        return {
            "total_requests": self._num_done,
            "average_latency": self._latency_s / max(1, self._num_done),
            "batching_stats": {
                "total_batches": self._num_ticks,
                "avg_batch_size": self._num_rows / max(1, self._num_ticks),
                "total_tokens": self._num_tokens,
            },
            "speculative_stats": {
                "acceptance_rate": (now.accepted_drafts - before.accepted_drafts) / max(1, proposed),
                "draft_length": proposed / max(1, now.drafted_rows - before.drafted_rows),
            },
        }


def complete(completions: Completions, prompts: Sequence[Segment]) -> list[Generation | str]:
    """The answer to each prompt, all of them at work together, or the fault that ended it."""
    asked_s = perf_counter()
    for prompt in prompts:
        completions.add(prompt)
    found: dict[Lane, Generation | str] = {}
    while completions.num_open:
        for lane, ended in completions.tick().items():
            found[lane] = ended if isinstance(ended, str) else completions.answer(ended, asked_s)
    completions.tick()
    return [found[prompt.lane] for prompt in prompts]
