"""The heads that align are found."""

import random

import numpy as np
import pytest

from protocol import Session
from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import build
from worker.engine.head_attention import HeadAttention, head_attention
from worker.engine.model import StreamingModel
from worker.engine.text.card import Card
from worker.engine.text.tokenizer import Vocabulary
from worker.evaluation import calibration
from worker.evaluation.calibration import Calibration, HeadScore, calibrate
from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import EvaluationError

FRENCH = Session(source_language="en", target_language="fr")
VOCABULARY = Vocabulary(chat_tokenizer(), Card(), max_positions=2048)
GROUPED = Vocabulary(chat_tokenizer(), Card(layout="group"), max_positions=2048)


def corpus(num_sentences: int) -> list[Sentence]:
    """Sentences of three letters a word, and their translation: the same words with other letters."""
    dice = random.Random(3)
    lines = [" ".join(dice.sample(["abc", "bcd", "cde", "def", "efg"], 4)) for _ in range(num_sentences)]
    return [Sentence(n, line, line.replace("c", "x").replace("d", "y")) for n, line in enumerate(lines, 1)]


def model() -> StreamingModel:
    """Two layers of four heads, at random."""
    return StreamingModel(build("qwen2", vocab_size=258), position_offset=256)


@pytest.mark.parametrize("vocabulary", [VOCABULARY, GROUPED], ids=["contiguous", "group"])
def test_a_head_that_aligns_is_chosen(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both layouts: with one of eight random heads made to attend to the token that is translated, it alone."""

    def planted(*args: object, **options: object) -> HeadAttention:
        heads, weights = head_attention(*args, **options)  # type: ignore[arg-type]
        weights = weights.copy()
        weights[heads.index((1, 2))] = 1e-3 * np.eye(*weights.shape[1:])  # nothing beside the sum of all
        return HeadAttention(heads, weights)

    monkeypatch.setattr(calibration, "head_attention", planted)
    done: list[None] = []
    found = calibrate(model(), vocabulary, FRENCH, corpus(9), on_done=lambda: done.append(None))
    best, second = found.heads[:2]
    assert (best.layer, best.head, best.score) == (1, 2, 1.0)
    assert second.score < 0.7
    assert found.chosen == found.heads[:1]
    assert len(found.heads) == 8
    assert len(done) == found.num_sentences == 9
    assert found.num_tokens > 9 * 10


@pytest.mark.parametrize(("of_two", "of_all", "num_chosen"), [(0.6, 0.5, 2), (0.4, 0.55, 0), (0.5, 0.5, 0)])
def test_none_is_chosen_where_all_align_as_well(of_two: float, of_all: float, num_chosen: int) -> None:
    """Then AlignAtt goes on to read all."""
    heads = tuple(HeadScore(0, i, 0.3) for i in range(4))
    found = Calibration(
        heads=heads, scores_together={1: 0.3, 2: of_two}, score_of_all=of_all, num_sentences=9, num_tokens=99
    )
    assert found.chosen == heads[:num_chosen]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (corpus(1), "1 lines hold .* at least 50"),
        ([*corpus(9), Sentence(10, "\u200b", "a")], "line 10 of the test set holds no words"),
        ([*corpus(9), Sentence(10, "a " * 2000, "b")], "line 10 of the test set has .* tokens with the prompt"),
    ],
)
def test_what_cannot_be_used_is_named(lines: list[Sentence], message: str) -> None:
    """Before the model computes anything."""
    with pytest.raises(EvaluationError, match=message):
        calibrate(model(), VOCABULARY, FRENCH, lines)
