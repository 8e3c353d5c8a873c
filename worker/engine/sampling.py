"""The next token from its logits: greedy, or with noise that depends on nothing but seed and position.

argmax(logits / T + Gumbel noise) draws from softmax(logits / T); with the noise keyed by seed and position, batching,
speculation and replay draw the same token, and no random state needs saving.
"""

from collections.abc import Sequence

import mlx.core as mx

from worker.core.ports import Draw

# Below it the noise is lost in the rounding of the logits, and dividing by it would overflow.
_COLD = 1e-6


class Sampler:
    """Chooses tokens from logits of V entries; `word_starts` and `forbidden` are (V,) bool."""

    def __init__(self, word_starts: mx.array, forbidden: mx.array) -> None:
        low = mx.array(-mx.inf, mx.float32)
        self._text = mx.where(forbidden, low, mx.array(0.0))
        self._word_start = mx.where(word_starts & ~forbidden, mx.array(0.0), low)

    def choose(self, logits: mx.array, draw: Draw, drafts: Sequence[int] = ()) -> mx.array:
        """Token ids (T,) int32 for logits (T, V): one after the last confirmed token, one after each draft."""
        num_tokens = logits.shape[0]
        masks = [self._word_start if draw.word_start else self._text] + [self._text] * (num_tokens - 1)
        scores = logits.astype(mx.float32)
        if draw.repetition_penalty is not None:
            scores = mx.stack([self._penalised(scores[i], draw, drafts[:i]) for i in range(num_tokens)])
        scores = scores + mx.stack(masks)
        if draw.temperature < _COLD:
            return mx.argmax(scores, axis=-1)
        rows = [_noisy(scores[i], draw, draw.position + i) for i in range(num_tokens)]
        return mx.argmax(mx.stack(rows), axis=-1)

    def probabilities(self, logits: mx.array, tokens: mx.array) -> mx.array:
        """What the model gives to each of `tokens` (T,) by its logits (T, V), before any option has its say; (T,)."""
        scores = logits.astype(mx.float32)
        chosen = mx.take_along_axis(scores, tokens[:, None], axis=-1)[:, 0]
        return mx.exp(chosen - mx.logsumexp(scores, axis=-1))

    def _penalised(self, scores: mx.array, draw: Draw, drafts: Sequence[int]) -> mx.array:
        # Keskar et al. 2019: what was written lately becomes less likely, whatever the sign of its logit.
        recent = sorted({*(*draw.history, *drafts)[-draw.context_tokens :]}) if draw.context_tokens else []
        if not recent or draw.repetition_penalty is None:
            return scores
        index = mx.array(recent)
        old = scores[index]
        scores[index] = mx.where(old < 0, old * draw.repetition_penalty, old / draw.repetition_penalty)
        return scores


def _noisy(scores: mx.array, draw: Draw, position: int) -> mx.array:
    warm = scores / draw.temperature
    if draw.top_p < 1:
        warm = _nucleus(warm, draw.top_p)
    key = mx.random.key((draw.seed * 1_000_003 + position) % 2**63)
    return warm + mx.random.gumbel(warm.shape, key=key)


def _nucleus(scores: mx.array, top_p: float) -> mx.array:
    # Keeps the smallest set of tokens whose probability reaches top_p (Holtzman et al. 2020).
    order = mx.argsort(-scores)
    probabilities = mx.softmax(scores[order])
    before = mx.cumsum(probabilities) - probabilities  # of the likelier ones
    # The first always stays, also where top_p is too small for a float.
    kept = (before < top_p) | (mx.arange(before.size) == 0)
    out = mx.full(scores.shape, -mx.inf)
    out[order] = mx.where(kept, scores[order], mx.array(-mx.inf))
    return out
