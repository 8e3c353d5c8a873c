"""Talks without near ties: other rows in a pass change the rounding of a model's logits, which must not change a token.
So a stream that differs has met a fault, not a tie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mlx.core as mx

from tests.chaos.talks import Talk, make_talks
from tests.worker.core.drive import Driver
from worker.core.rows import Row
from worker.engine.loading import load, load_vocabulary
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.sampling import Sampler, SamplerOutput
from worker.engine.text.tokenizer import Vocabulary

_CLEAR: Final = 1e-4
"""Least difference of the two highest logits. Rounding changed such differences of the tiny model by at most 1.1e-5
over 750 tokens, alone and in company (fp32). About one talk in a hundred has a nearer choice.
"""


class Doubter(Sampler):
    """A sampler that collects the numbers of sessions with a token that a slightly lower logit would change."""

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        super().__init__(vocabulary.word_starts(size), vocabulary.forbidden(size))
        self.doubted: set[int] = set()

    def sample(self, logits: mx.array, rows: Sequence[Row]) -> SamplerOutput:
        draws = super().sample(logits, rows)
        tokens = draws.arrays[0]
        chosen = mx.arange(logits.shape[-1]) == tokens[:, None]
        others = super().sample(logits - _CLEAR * chosen, rows).arrays[0]
        owners = [row.lane[0] for row in rows for _ in range(row.num_samples)]
        differs: Any = (tokens != others).tolist()
        self.doubted |= {owner for owner, is_other in zip(owners, differs, strict=True) if is_other}
        return draws


def clear_talks(directory: Path, seed: int, num_sessions: int, num_words: int) -> list[Talk]:
    """Return the first talks of that seed in which every choice is clear to the model.

    Raises ValueError where a tenth of them has an unclear choice.
    """
    talks = make_talks(seed, num_sessions + num_sessions // 10 + 1, num_words)
    model, tokenizer = load(str(directory))
    doubted = _doubted(model, load_vocabulary(str(directory), tokenizer), talks)
    clear = [talk for i, talk in enumerate(talks) if i not in doubted]
    if len(clear) < num_sessions:
        raise ValueError(
            f"expected {num_sessions} of {len(talks)} talks to be clear, got {len(clear)}: change the model"
        )
    return clear[:num_sessions]


def _doubted(model: StreamingModel, vocabulary: Vocabulary, talks: Sequence[Talk]) -> set[int]:
    runner = Runner(model, vocabulary)
    runner._sampler = doubter = Doubter(vocabulary, int(model(mx.array([[0]])).shape[-1]))
    driver = Driver(vocabulary=vocabulary, names=[talk.session_id for talk in talks])  # type: ignore[arg-type]
    driver.runner = runner  # type: ignore[assignment]
    for talk in talks:
        driver.step(*talk.events(), name=talk.session_id)
    driver.run()
    return doubter.doubted
