"""The re-encode oracle."""

from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import Limits, Session
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.core.rows import Lane, Output, Row
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary
from worker.evaluation import policies
from worker.evaluation.corpus import Sentence
from worker.evaluation.oracle import Oracle
from worker.evaluation.run import translate
from worker.library.running import runner_of

OPTIONS = Session(limits=Limits(max_new_words=9, max_tokens_per_word=6))
TEXTS = st.lists(st.sampled_from(["the", "cat", "sat.", "世", "x"]), min_size=1, max_size=8).map(" ".join)


class _Watching(FakeRunner):
    """Says after every pass whether some target token has seen less source than its lane holds."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model)
        self.is_behind: list[bool] = []

    def run(self, rows: Sequence[Row], dropped: Iterable[Lane] = ()) -> tuple[Output, ...]:
        sampled = super().run(rows, dropped)
        for row in rows:
            source, target = self.lanes[row.lane]
            if row.target:
                self.is_behind.append(any(seen < len(source) for _, seen in target))
        return sampled


@settings(deadline=None)
@given(TEXTS, st.integers(0, 50), st.integers(1, 4))
def test_no_target_is_behind_its_source(text: str, seed: int, k: int) -> None:
    """After every pass each target token has seen all source read so far; afterwards no lane is held."""
    engine = _Watching(FakeModel(seed))
    translate(Oracle(engine), FakeVocabulary(), policies.wait_k(OPTIONS, k), [Sentence(1, text, "a")])
    assert not any(engine.is_behind)
    assert not engine.lanes


def test_without_the_oracle_targets_are_behind() -> None:
    """As soon as a word is written before the end of the source: the law above can fail."""
    engine = _Watching(FakeModel(3, eos=0.0))
    translate(engine, FakeVocabulary(), policies.wait_k(OPTIONS, 1), [Sentence(1, "the cat sat. on x", "a")])
    assert any(engine.is_behind)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 50), st.sampled_from([None, 9]))
def test_offline_there_is_nothing_to_encode_again(text: str, seed: int, k: int | None) -> None:
    """The same words as without it, also for a k that waits for the whole source and its end."""
    session = policies.offline(OPTIONS) if k is None else policies.wait_k(OPTIONS, k)
    corpus = [Sentence(1, text, "a")]
    found = translate(Oracle(FakeRunner(FakeModel(seed))), FakeVocabulary(), session, corpus).sentences[0]
    plain = translate(FakeRunner(FakeModel(seed)), FakeVocabulary(), session, corpus).sentences[0]
    assert (found.prediction, found.delays) == (plain.prediction, plain.delays)


def test_the_shipped_model_reads_by_the_same_rule(
    starter: StreamingModel, starter_vocabulary: Vocabulary, corpus: list[Sentence]
) -> None:
    """The oracle changes what the model has seen, never when it may write."""
    runner = runner_of(starter, starter_vocabulary)
    session = policies.wait_k(Session(target_language="fr"), 3)
    for found in translate(Oracle(runner), starter_vocabulary, session, corpus).sentences:
        assert found.delays == tuple(min(3 + i, found.source_words) for i in range(len(found.delays)))
        assert found.prediction
    assert runner.num_lanes == 0
