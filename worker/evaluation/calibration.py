"""The search for the heads that align target and source, for AlignAtt.

A head's score is the share of reference tokens at which it attends most to the source word that the token translates,
by word alignment. The query is the one from which the token is drawn, as in AlignAtt. Papi et al. 2023 take a layer of
cross-attention; a decoder-only model has none, and only some of its heads align (AlignAtt4LLM, arXiv 2606.03967).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol import Session
from worker.core import segment as segments
from worker.core import source as sources
from worker.core import words
from worker.core.segment import Segment
from worker.engine.head_attention import HeadAttention, head_attention
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary
from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import UnusableCorpus, UnusableSentence
from worker.evaluation.word_alignment import align

NUM_HEADS: Final = (1, 2, 4, 8, 16, 32)
"""Numbers of heads that are tried; those that align best together are chosen."""
MIN_TOKENS: Final = 50
"""Fewest aligned tokens for scores that mean anything."""


class HeadScore(msgspec.Struct, frozen=True):
    """A head, and the share of aligned reference tokens at which it attends most to their source word."""

    layer: int
    head: int
    score: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """All heads, the best first; the scores of the best k together, by k, and of all together; and their data."""

    heads: tuple[HeadScore, ...]
    scores_together: dict[int, float]
    score_of_all: float
    num_sentences: int
    num_tokens: int

    @property
    def chosen(self) -> tuple[HeadScore, ...]:
        """The heads that align best together; none where all heads align as well."""
        num_heads, score = max(self.scores_together.items(), key=lambda item: item[1])
        return self.heads[:num_heads] if score > self.score_of_all else ()


def calibrate(
    model: StreamingModel, vocabulary: Vocabulary, session: Session, corpus: Sequence[Sentence], *,
    on_done: Callable[[], None] = lambda: None,
) -> Calibration:  # fmt: skip
    """Score all heads of the model on parallel sentences; call `on_done` after each of them.

    Raises UnusableSentence for a line that the model cannot take, UnusableCorpus for lines with too few words that can
    be aligned, UnsupportedModel for a model whose attention cannot be seen.
    """
    pairs = [_pair(sentence, session, vocabulary) for sentence in corpus]
    links = align([(_bare(pair.segment.source.words), _bare(pair.reference)) for pair in pairs])
    expected = [_expected(pair, found) for pair, found in zip(pairs, links, strict=True)]
    num_tokens = sum(int((each >= 0).sum()) for each in expected)
    if num_tokens < MIN_TOKENS:
        raise UnusableCorpus(
            f"the {len(corpus)} lines hold {num_tokens} tokens that can be aligned, at least {MIN_TOKENS} are needed; "
            "give a few hundred translated sentences"
        )
    attention = []
    for pair in pairs:
        attention.append(_attention(model, pair))
        on_done()

    def score(weights: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
        hits = [_hits(*each) for each in zip(pairs, weights, expected, strict=True)]
        return np.asarray(np.sum(hits, axis=0) / num_tokens)

    def together(chosen: Sequence[int] | slice) -> float:
        return float(score(each.weights[chosen].sum(axis=0, dtype=np.float32) for each in attention))

    by_head = score(each.weights for each in attention)
    known, order = attention[0].heads, np.argsort(-by_head, kind="stable").tolist()
    return Calibration(
        heads=tuple(HeadScore(layer, head, float(by_head[i])) for i in order for layer, head in [known[i]]),
        scores_together={num: together(order[:num]) for num in NUM_HEADS if num < len(order)},
        score_of_all=together(slice(None)),
        num_sentences=len(corpus),
        num_tokens=num_tokens,
    )


class _Pair(msgspec.Struct, frozen=True):
    # A sentence as the model reads it, and its reference with the tokens of each word.
    segment: Segment
    reference: list[str]
    reference_tokens: list[tuple[int, ...]]


def _pair(sentence: Sentence, session: Session, vocabulary: Vocabulary) -> _Pair:
    spoken, reference = words.source_words(sentence.source), words.source_words(sentence.reference)
    segment = segments.begin(0, (0, 0), session, vocabulary)
    for word in spoken:
        segment = segments.append(segment, word, sources.encode(segment.source, word, vocabulary), 0)
    segment = segments.end(segment, 0)
    tokens = [vocabulary.encode_word(word, before) for before, word in zip(("", *reference), reference, strict=False)]
    if not (spoken and any(tokens)):
        raise UnusableSentence(f"line {sentence.line} of the test set holds no words; take it out")
    prompt = segment.prompt
    num_source, num_target = len(segment.source.tokens), len(prompt.target) + sum(map(len, tokens))
    if num_source > prompt.max_source_tokens or num_target > prompt.max_target_tokens:
        raise UnusableSentence(
            f"line {sentence.line} of the test set has {num_source} source and {num_target} target tokens with the "
            f"prompt, the model takes {prompt.max_source_tokens} and {prompt.max_target_tokens}; take it out"
        )
    return _Pair(segment, reference, tokens)


def _bare(texts: Sequence[str]) -> list[str]:
    # "The" and "the", "house" and "house." are the same word.
    letters = ("".join(filter(str.isalnum, text)).casefold() for text in texts)
    return [bare or text for bare, text in zip(letters, texts, strict=True)]


def _expected(pair: _Pair, links: Mapping[int, int]) -> NDArray[np.int64]:
    # For each token of the reference, the index of the source word that it translates; -1: not known.
    return np.array([links.get(j, -1) for j, tokens in enumerate(pair.reference_tokens) for _ in tokens], np.int64)


def _attention(model: StreamingModel, pair: _Pair) -> HeadAttention:
    source, prompt = pair.segment.source, pair.segment.prompt
    written = [token for tokens in pair.reference_tokens for token in tokens]
    return head_attention(
        model,
        tuple(source.tokens),
        (*prompt.target, *written[:-1]),
        num_queries=len(written),
        words=slice(source.bounds[0], source.bounds[source.num_words]),
        is_contiguous=prompt.is_contiguous,
    )


def _hits(pair: _Pair, weights: NDArray[Any], expected: NDArray[np.int64]) -> NDArray[np.int64]:
    # How many tokens attend most to their source word, by weights (…, T, S): (…).
    source = pair.segment.source
    ends = np.array([bound - source.bounds[0] for bound in source.bounds[1:]])
    hits: NDArray[np.int64] = (np.searchsorted(ends, weights.argmax(axis=-1), side="right") == expected).sum(axis=-1)
    return hits
