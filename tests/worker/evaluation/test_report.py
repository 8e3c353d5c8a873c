"""Reports, and what is drawn of them."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from worker.evaluation.curve import Curve, Point
from worker.evaluation.errors import NotComparable
from worker.evaluation.quality import Score
from worker.evaluation.report import Report, check_same_test, curves, read_report
from worker.evaluation.scores import Latency, Scores


def _scores(policy: str, bleu: float, al: float | None) -> Scores:
    latency = None if al is None else Latency(al=al, laal=al, ap=0.5, dal=al)
    return Scores(
        policy=policy,
        bleu=Score(bleu, "b"),
        chrf=Score(bleu, "c"),
        latency_words=latency,
        latency_ca_ms=latency,
        num_sentences=4,
        num_empty=0,
        num_cut=0,
        num_words=20,
        words_per_s=60.0,
        compute_s=0.3,
    )


REPORT = Report(
    model="starter",
    test="talk.tsv",
    source_language="en",
    target_language="fr",
    num_sentences=4,
    limit=4,
    seed=None,
    rows=32,
    word_ms=300,
    policies=(_scores("wait-3", 30.6, 3.1), _scores("wait-9", 0, None), _scores("offline", 31.8, 6.0)),
)


def test_streaming_policies_are_points_and_offline_is_a_level() -> None:
    """A policy that wrote nothing has no place on the curve."""
    assert curves(REPORT, "ours") == {"ours": Curve([Point(3.1, 30.6, "wait-3")], 31.8)}


def test_the_oracle_is_a_curve_of_its_own() -> None:
    """Beside the one that it is compared with."""
    both = replace(REPORT, policies=(*REPORT.policies, _scores("wait-3-oracle", 31, 3.1)))
    assert curves(both, "ours") == {
        **curves(REPORT, "ours"),
        "ours, re-encoded": Curve([Point(3.1, 31, "wait-3-oracle")]),
    }


def test_a_report_is_read_as_it_was(tmp_path: Path) -> None:
    """From its folder; anything else there is refused."""
    (tmp_path / "scores.json").write_bytes(msgspec.json.encode(REPORT))
    assert read_report(tmp_path) == REPORT
    (tmp_path / "scores.json").write_bytes(b"{}")
    with pytest.raises(NotComparable, match=r"scores\.json"):
        read_report(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_report(tmp_path / "nowhere")


def test_one_curve_shows_one_test_set(tmp_path: Path) -> None:
    """The name, the number of sentences and how they were drawn are the same."""
    check_same_test(tmp_path, REPORT, "talk.tsv", num_sentences=4, seed=None)
    for test, num_sentences, seed in (("news.tsv", 4, None), ("talk.tsv", 5, None), ("talk.tsv", 4, 1)):
        with pytest.raises(NotComparable, match="one test set"):
            check_same_test(tmp_path, REPORT, test, num_sentences=num_sentences, seed=seed)
