"""The agent of SimulEval: what it writes, and how late, is what `decalage evaluate` says.

The tests that run SimulEval itself need it beside everything else: `pip install simuleval==1.1.4`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import ClientEvent, InputTextAppend, Limits, OutputTextDelta, Session, SessionClose, SessionCreate
from tests.worker.fakes import FakeModel, FakeRunner, FakeVocabulary
from worker.core.rows import Engine
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary
from worker.evaluation import policies
from worker.evaluation.corpus import Sentence
from worker.evaluation.oracle import Oracle
from worker.evaluation.run import Run, translate
from worker.evaluation.scores import latency_words, score
from worker.library.running import runner_of
from worker.library.words import LocalSession

ROOT: Final = Path(__file__).resolve().parents[3]
LATENCIES: Final = ("AL", "LAAL", "AP", "DAL")
POLICIES: Final = ("offline", "wait-1", "wait-3", "wait-3-oracle")
OPTIONS: Final = Session(limits=Limits(max_new_words=9, max_tokens_per_word=6))
TEXTS: Final = st.lists(st.sampled_from(["the", "cat", "sat.", "on", "世", "x"]), min_size=1, max_size=8)


def _word_by_word(engine: Engine, session: Session, source: list[str]) -> list[tuple[str, int]]:
    """Each target word with the number of source words that had been sent when it came out, as SimulEval counts."""
    found = []
    local = LocalSession(engine, FakeVocabulary(), "fake")
    assert not list(local.take([SessionCreate(session=session)]))
    for num_sent, word in enumerate(source, 1):
        events: list[ClientEvent] = [InputTextAppend(text=word)]
        said = list(local.take([*events, SessionClose()] if num_sent == len(source) else events))
        found += [(event.text, num_sent) for event in said if isinstance(event, OutputTextDelta)]
    local.clear()
    return found


@settings(deadline=None)
@given(TEXTS, st.integers(0, 50), st.sampled_from(POLICIES))
def test_a_word_at_a_time_as_all_at_once(source: list[str], seed: int, policy: str) -> None:
    """Words come out exactly when as many source words were sent as an evaluation says that they waited for."""
    session, runner = policies.named(OPTIONS, policy), FakeRunner(FakeModel(seed))
    engine = Oracle(runner) if policies.is_oracle(policy) else runner
    sentence = Sentence(1, " ".join(source), "a b c")
    whole = translate(engine, FakeVocabulary(), session, [sentence]).sentences[0]
    found = _word_by_word(engine, session, source)
    assert "".join(text for text, _ in found) == whole.prediction
    assert tuple(delay for _, delay in found) == whole.delays
    assert not runner.lanes


def _simuleval(folder: Path, corpus: list[Sentence], *options: str) -> "subprocess.CompletedProcess[str]":
    """SimulEval's own command over these sentences into French; what it writes lies in `folder`."""
    pytest.importorskip("simuleval", reason="SimulEval is not installed; see this file's head")
    source, target = folder / "source.txt", folder / "target.txt"
    source.write_text("".join(f"{sentence.source}\n" for sentence in corpus), encoding="utf-8")
    target.write_text("".join(f"{sentence.reference}\n" for sentence in corpus), encoding="utf-8")
    agent = ROOT / "worker" / "evaluation" / "simuleval_agent.py"
    command: list[str | Path] = ["--agent", agent, "--source", source, "--target", target, "--to", "fr", *options]
    command += ["--quality-metrics", "BLEU", "--latency-metrics", *LATENCIES, "--output", folder]
    return subprocess.run(
        [sys.executable, "-m", "simuleval.cli", *command], cwd=ROOT, capture_output=True, text=True, timeout=150
    )


def _evaluated(model: StreamingModel, vocabulary: Vocabulary, corpus: list[Sentence], policy: str) -> Run:
    runner = runner_of(model, vocabulary)
    session = policies.named(Session(target_language="fr"), policy)
    return translate(Oracle(runner) if policies.is_oracle(policy) else runner, vocabulary, session, corpus)


def _table(path: Path) -> list[dict[str, float]]:
    names, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [dict(zip(names, map(float, row), strict=True)) for row in rows]


def _in_words(found: Any) -> dict[str, float]:
    return {name: round(getattr(found, name.lower()), 3) for name in LATENCIES}


@pytest.mark.parametrize("policy", POLICIES)
def test_simuleval_says_the_same(
    starter: StreamingModel, starter_vocabulary: Vocabulary, corpus: list[Sentence], tmp_path: Path, policy: str
) -> None:
    """The shipped model's words, each one's delay, every sentence's latencies, the corpus's BLEU and latencies."""
    ran = _simuleval(tmp_path, corpus, "--model", "starter", "--policy", policy)
    assert ran.returncode == 0, ran.stderr
    ours = _evaluated(starter, starter_vocabulary, corpus, policy)
    theirs = [json.loads(line) for line in (tmp_path / "instances.log").read_text(encoding="utf-8").splitlines()]
    for sentence, instance in zip(ours.sentences, theirs, strict=True):
        assert (instance["prediction"], tuple(instance["delays"])) == (sentence.prediction, sentence.delays)
        assert instance["source_length"] == sentence.source_words
    assert _table(tmp_path / "metrics.tsv") == [_in_words(latency_words(sentence)) for sentence in ours.sentences]
    figures = score(ours, language="fr")
    expected = {"BLEU": round(figures.bleu.value, 3)} | _in_words(figures.latency_words)
    assert _table(tmp_path / "scores.tsv") == [expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--policy", "wait-k"), "got 'wait-k'"),
        (("--policy", "wait-0"), "Expected `int` >= 1 at `$.session.policy.k`"),
        (("--max-new-words", "0"), "Expected `int` >= 1 at `$.session.limits.max_new_words`"),
        (("--to", "es"), "got target_language 'es'"),
        (("--model", "no-such-model"), "no model directory 'no-such-model'"),
    ],
)
def test_what_cannot_be_evaluated(corpus: list[Sentence], tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """It stops before the first sentence, and says why."""
    ran = _simuleval(tmp_path, corpus, *options)
    assert ran.returncode != 0
    assert said in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "instances.log").exists()
