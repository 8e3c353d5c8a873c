"""The logits behind a token depend on what was said and written; all else only rounds them otherwise, and little."""

from collections.abc import Collection, Iterable, Sequence

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.model import write_tiny_model
from tests.chaos.talks import Talk, make_talks
from tests.worker.core.drive import Driver
from worker.core.rows import Lane, Output, Row, Tokens
from worker.core.scheduler import Budget
from worker.engine.adapters import kernels
from worker.engine.loading import load, load_vocabulary
from worker.engine.model import StreamingModel
from worker.engine.runner import Runner
from worker.engine.sampling import Sampler, SamplerOutput
from worker.engine.text.tokenizer import Vocabulary

ROUNDING = 5e-6  # of the largest logit
Written = tuple[Lane, int, tuple[int, ...]]  # where, how much source had been read, the target tokens
Fed = list[tuple[int, int]]  # target tokens, and how much source each of them saw


class Keeper(Sampler):
    """A sampler that keeps the logits it saw, by lane."""

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        super().__init__(vocabulary.word_starts(size), vocabulary.forbidden(size))
        self.logits: dict[Lane, mx.array] = {}

    def sample(self, logits: mx.array, rows: Sequence[Row]) -> SamplerOutput:
        start = 0
        for row in rows:
            self.logits[row.lane] = logits[start : start + row.num_samples]
            start += row.num_samples
        return super().sample(logits, rows)


class Watched(Runner):
    """A runner that tells behind what it has sampled: what each of the target tokens saw, and the logits."""

    def __init__(self, model: StreamingModel, vocabulary: Vocabulary) -> None:
        self.found: dict[Written, tuple[list[int], mx.array]] = {}
        self._held: dict[Lane, tuple[int, Fed]] = {}
        self._keeper: Keeper | None = None
        super().__init__(model, vocabulary)  # which warms up
        self._keeper = self._sampler = Keeper(vocabulary, int(model(mx.array([[0]])).shape[-1]))

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        gone = tuple(dropped)
        for lane in gone:
            self._held.pop(lane, None)
        found = super().run(rows, gone)
        for row, sampled in zip(rows, found, strict=True):
            assert isinstance(sampled, Tokens)
            self._keep(row)
        return found

    def _keep(self, row: Row) -> None:
        if self._keeper is None:
            return
        num_source, target = self._held.get(row.lane, (0, []))
        num_source += len(row.source)
        if row.target:
            visible_source = [*row.visible_source, *[num_source] * (len(row.target) - len(row.visible_source))]
            target = [*target[: row.target_start], *zip(row.target, visible_source, strict=True)]
        self._held[row.lane] = num_source, target
        for i in range(row.num_samples):
            fed = target[: len(target) - row.num_samples + 1 + i]
            written = row.lane, num_source, tuple(token for token, _ in fed)
            self.found[written] = [seen for _, seen in fed], self._keeper.logits[row.lane][i]


def play(runner: Runner, vocabulary: Vocabulary, talks: Sequence[Talk], budget: Budget, lost: Collection[int]) -> None:
    """The talks, word by word to their ends; all lanes are lost before these events, and in the tick behind them."""
    names = [talk.session_id for talk in talks]
    driver = Driver(vocabulary=vocabulary, names=names, budget=budget)  # type: ignore[arg-type]
    driver.runner = runner  # type: ignore[assignment]
    logs = [list(talk.events()) for talk in talks]
    for i in range(max(map(len, logs))):
        for name, log in zip(names, logs, strict=True):
            driver.step(*log[i : i + 1], name=name)
        for _ in range(2 * (i in lost)):
            runner.run([], dropped=driver.evict())
            driver.tick()
        driver.run()


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> tuple[StreamingModel, Vocabulary]:
    """A model whose attention turns on small differences: it makes much of what others would not notice."""
    directory = str(write_tiny_model(tmp_path_factory.mktemp("model")))
    model, tokenizer = load(directory)
    return model, load_vocabulary(directory, tokenizer)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 99),
    num_others=st.sampled_from([0, 3, 12]),
    lost=st.sets(st.integers(1, 18)),
    max_pass_tokens=st.sampled_from([5, 40, 2048]),
    max_draft_tokens=st.sampled_from([0, 16]),
    many_scores=st.sampled_from([0, kernels._MANY]),
)
def test_company_drafts_and_rebuilt_lanes_change_no_logits(
    sharp: tuple[StreamingModel, Vocabulary],
    seed: int,
    num_others: int,
    lost: set[int],
    max_pass_tokens: int,
    max_draft_tokens: int,
    many_scores: int,
) -> None:
    """Law: whoever shares the passes, however small they are, whenever lanes are lost, with drafts or without: what
    is sampled behind the same words saw the same, and its logits are those of a session that is alone.
    """
    talks = make_talks(seed, 1 + num_others, 12)
    alone, disturbed = Watched(*sharp), Watched(*sharp)
    play(alone, sharp[1], talks[:1], Budget(), ())
    budget = Budget(max_pass_tokens=max_pass_tokens, max_draft_tokens=max_draft_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_MANY", many_scores)
        play(disturbed, sharp[1], talks, budget, lost)
    common = alone.found.keys() & disturbed.found.keys()
    assert len(common) > len(alone.found) / 2
    for written in common:
        (visible_source, expected), (other_visible, logits) = alone.found[written], disturbed.found[written]
        assert visible_source == other_visible
        assert float(mx.abs(logits - expected).max() / mx.abs(expected).max()) < ROUNDING
