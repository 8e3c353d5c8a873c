"""Random pairs of tokens, and a vocabulary that makes the core's own machine feed them."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st

from protocol import DEFAULT_POLICY, Session
from worker.core.rows import Prompt
from worker.engine.model import Model, ModelArgs
from worker.training.pairs import Pair

EOS = 1
SIZE = 32
Words = list[list[int]]


def tiny(position_offset: int = 0) -> Model:
    """A Qwen2 of two layers with random weights; the same one each time."""
    mx.random.seed(3)
    model = Model(
        ModelArgs(
            model_type="qwen2",
            hidden_size=16,
            num_hidden_layers=2,
            intermediate_size=24,
            num_attention_heads=2,
            num_key_value_heads=1,
            rms_norm_eps=1e-6,
            vocab_size=SIZE,
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            max_position_embeddings=512,
        )
    )
    model.position_offset = position_offset
    mx.eval(model.parameters())
    return model


def pair_of(source: Words, target: Words, prompt: Sequence[int] = (2, 3), answer: Sequence[int] = (4,)) -> Pair:
    """A pair with these words, an end of one token, and these prompts."""
    segments = [list(prompt), *source, [5]]
    words = [*target, [EOS]]
    predicts = [0] * (len(answer) - 1) + [t for t, word in enumerate(words) for _ in word]
    return Pair(
        source=np.array([token for segment in segments for token in segment], np.int32),
        bounds=np.cumsum([len(segment) for segment in segments]).astype(np.int32),
        target=np.array([*answer, *(token for word in words for token in word)], np.int32),
        predicts=np.array(predicts, np.int32),
        num_given=len(answer) - 1,
    )


def texts(min_words: int = 1, max_words: int = 6) -> st.SearchStrategy[Words]:
    """Words of one to three tokens; the first token of a word is even, the others are odd."""
    first = st.integers(4, SIZE // 2 - 1).map(lambda n: 2 * n)
    others = st.lists(st.integers(4, SIZE // 2 - 1).map(lambda n: 2 * n + 1), max_size=2)
    word = st.builds(lambda head, tail: [head, *tail], first, others)
    return st.lists(word, min_size=min_words, max_size=max_words)


class EvenStarts:
    """`core.rows.Vocabulary`: an even token begins a word, an odd one goes on with it."""

    eos_tokens = frozenset({EOS})
    default_policy = DEFAULT_POLICY

    def prompt(self, session: Session) -> Prompt:
        """Two source tokens, an end, and one target token."""
        return Prompt(source=(2, 3), end=(5,), target=(4,), max_source_tokens=500, max_target_tokens=500)

    def encode_word(self, word: str, previous: str) -> tuple[int, ...]:
        """Not needed: the tests append tokens."""
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        """Even tokens with a space before them, odd ones without."""
        return "".join((" " if token % 2 == 0 else "") + chr(97 + token) for token in tokens)
