"""The next token from its logits: greedy, or with noise that depends only on seed and position.

argmax(logits / T + Gumbel noise) draws from softmax(logits / T); with the noise keyed by seed and position, batching,
speculation and replay draw the same token, and no random state needs saving.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import mlx.core as mx

from worker.core.rows import Row, SampleSpec

# Below it the noise is lost in the rounding of the logits, and a division by it would overflow.
_LOWEST_TEMPERATURE = 1e-6
_NUM_MASKS = 5  # of answers with introductions, and as many without


class SamplerOutput:
    """The tokens drawn for the rows of a pass; evaluate `arrays` before a call of `values`."""

    def __init__(self, counts: Sequence[int], tokens: mx.array, sums: mx.array, probabilities: mx.array | None) -> None:
        self._counts = counts
        self._tokens, self._sums, self._probabilities = tokens, sums, probabilities

    @property
    def arrays(self) -> list[mx.array]:
        """Tokens (Q,), sums of their logits (Q,) and, where a row asks for them, probabilities (Q,)."""
        return [self._tokens, self._sums, *([] if self._probabilities is None else [self._probabilities])]

    def values(self) -> Iterator[tuple[tuple[int, ...] | None, tuple[float, ...]]]:
        """Yield the tokens of each row, None where the logits are NaN, and their probabilities."""
        tokens: Any = self._tokens.tolist()
        sums: Any = self._sums.tolist()
        probabilities: Any = [] if self._probabilities is None else self._probabilities.tolist()
        start = 0
        for count in self._counts:
            span = slice(start, start + count)
            start += count
            is_sound = not any(map(math.isnan, sums[span]))
            yield tuple(tokens[span]) if is_sound else None, tuple(probabilities[span])


class Sampler:
    """Chooses tokens from logits of V entries; all arguments are (V,) bool.

    `word_starts` may stand behind a finished word, `forbidden` nowhere, `line_breaks` not in an answer of one line, and
    only `openings` may open one; `introductions` may not stand in an answer that says nothing about itself.
    """

    def __init__(
        self, word_starts: mx.array, forbidden: mx.array, line_breaks: mx.array | None = None,
        openings: mx.array | None = None, *, introductions: mx.array | None = None,
    ) -> None:  # fmt: skip
        text = ~forbidden
        line = text if line_breaks is None else text & ~line_breaks
        opening = line if openings is None else line & openings
        allowed = mx.stack([text, text & word_starts, line, line & word_starts, opening])
        allowed = mx.concatenate([allowed, allowed if introductions is None else allowed & ~introductions])
        self._masks = mx.where(allowed, mx.array(0.0), mx.array(-mx.inf, mx.float32))  # (10, V), see `_mask`
        self._each_mask = list(self._masks)
        mx.eval(self._masks, self._each_mask)  # here: another thread may run the passes

    def sample(self, logits: mx.array, rows: Sequence[Row]) -> SamplerOutput:
        """Draw one token after the last confirmed token of each row and one after each of its drafts; `logits` (Q, V)
        are those of all rows, in their order.
        """
        counts = [row.num_samples for row in rows]
        scores = logits.astype(mx.float32)
        if not rows:
            tokens = mx.array([], mx.int32)
        elif all(_is_greedy(row.sampling) for row in rows):
            masks = [_mask(row.sampling, i) for row, n in zip(rows, counts, strict=True) for i in range(n)]
            tokens = mx.argmax(scores + self._allowed(masks), axis=-1)
        else:
            ends = zip(rows, counts, accumulate(counts), strict=True)
            tokens = mx.concatenate(
                [self.choose(scores[end - n : end], row.sampling, row.drafts) for row, n, end in ends]
            )
        is_asked = any(row.sampling.with_probabilities for row in rows)
        probabilities = self.probabilities(scores, tokens) if is_asked else None
        return SamplerOutput(counts, tokens, scores.sum(axis=-1), probabilities)

    def choose(self, logits: mx.array, sampling: SampleSpec, drafts: Sequence[int] = ()) -> mx.array:
        """Return token ids (T,) int32 for logits (T, V): one after the last confirmed token, one after each draft."""
        num_tokens = logits.shape[0]
        scores = logits.astype(mx.float32)
        if sampling.repetition_penalty is not None:
            scores = mx.stack([self._penalised(scores[i], sampling, drafts[:i]) for i in range(num_tokens)])
        scores = scores + self._allowed([_mask(sampling, i) for i in range(num_tokens)])
        if sampling.temperature < _LOWEST_TEMPERATURE:
            return mx.argmax(scores, axis=-1)
        rows = [_noisy(scores[i], sampling, sampling.position + i) for i in range(num_tokens)]
        return mx.argmax(mx.stack(rows), axis=-1)

    def probabilities(self, logits: mx.array, tokens: mx.array) -> mx.array:
        """Return the probabilities (T,) of `tokens` (T,) by the logits (T, V), before any option changes these."""
        scores = logits.astype(mx.float32)
        chosen = mx.take_along_axis(scores, tokens[:, None], axis=-1)[:, 0]
        return mx.exp(chosen - mx.logsumexp(scores, axis=-1))

    def _allowed(self, masks: list[int]) -> mx.array:
        # 0 for tokens that may come, -inf for others: (V,) where that is the same for all samples, else (Q, V).
        return self._each_mask[masks[0]] if len(set(masks)) == 1 else self._masks[mx.array(masks)]

    def _penalised(self, scores: mx.array, sampling: SampleSpec, drafts: Sequence[int]) -> mx.array:
        # Keskar et al. 2019: recent tokens become less likely, whatever the sign of their logits.
        recent = sorted({*(*sampling.history, *drafts)[-sampling.context_tokens :]}) if sampling.context_tokens else []
        if not recent or sampling.repetition_penalty is None:
            return scores
        index = mx.array(recent)
        picked = scores[index]
        scores[index] = mx.where(picked < 0, picked * sampling.repetition_penalty, picked / sampling.repetition_penalty)
        return scores


def _mask(sampling: SampleSpec, index: int) -> int:
    # The mask of a row's sample of that index.
    first = _NUM_MASKS if sampling.no_introduction else 0
    if not sampling.one_line:
        return first + (sampling.word_start and not index)
    if sampling.opening and not index:
        return first + 4
    return first + 2 + (sampling.word_start and not index)


def _is_greedy(sampling: SampleSpec) -> bool:
    return sampling.temperature < _LOWEST_TEMPERATURE and sampling.repetition_penalty is None


def _noisy(scores: mx.array, sampling: SampleSpec, position: int) -> mx.array:
    scores = scores / sampling.temperature
    if sampling.top_p < 1:
        scores = _nucleus(scores, sampling.top_p)
    key = mx.random.key((sampling.seed * 1_000_003 + position) % 2**63)
    return scores + mx.random.gumbel(scores.shape, key=key)


def _nucleus(scores: mx.array, top_p: float) -> mx.array:
    # Keeps the smallest set of tokens whose probability reaches top_p (Holtzman et al. 2020).
    order = mx.argsort(-scores)
    probabilities = mx.softmax(scores[order])
    before = mx.cumsum(probabilities) - probabilities  # of the likelier ones
    # The likeliest always stays, even if top_p is too small for a float.
    kept = (before < top_p) | (mx.arange(before.size) == 0)
    out = mx.full(scores.shape, -mx.inf)
    out[order] = mx.where(kept, scores[order], mx.array(-mx.inf))
    return out
