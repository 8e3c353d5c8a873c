"""All figures of one evaluation: the content of `scores.json` and the output of `--json`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from worker.evaluation.curve import Curve, Point
from worker.evaluation.errors import NotComparable
from worker.evaluation.policies import OFFLINE, is_oracle
from worker.evaluation.quality import Difference
from worker.evaluation.scores import Scores

SCORES_FILE = "scores.json"
CURVE_FILE = "curve.png"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a test set under several policies."""

    model: str
    test: str
    source_language: str
    target_language: str
    num_sentences: int
    limit: int | None
    seed: int | None
    rows: int  # sentences to a pass: computing times are those of so many sessions at once
    word_ms: float
    policies: tuple[Scores, ...]
    baseline: str | None = None  # the results file of the baseline
    differences: Mapping[str, tuple[Difference, ...]] = {}


def curves(report: Report, name: str) -> dict[str, Curve]:
    """Return the report's curve of streaming policies with its offline BLEU, and one of the oracle where it ran."""
    offline = next((scores.bleu.value for scores in report.policies if scores.policy == OFFLINE), None)
    written = [scores for scores in report.policies if scores.policy != OFFLINE]
    curves_by_name = {name: Curve(_points(scores for scores in written if not is_oracle(scores.policy)), offline)}
    oracle = Curve(_points(scores for scores in written if is_oracle(scores.policy)))
    return curves_by_name | ({f"{name}, re-encoded": oracle} if oracle.points else {})


def _points(policies: Iterable[Scores]) -> list[Point]:
    # A policy that wrote nothing has no latency, so no point.
    return [
        Point(scores.latency_words.al, scores.bleu.value, scores.policy)
        for scores in policies
        if scores.latency_words is not None
    ]


def read_report(folder: Path) -> Report:
    """Read the report of an evaluation from its folder. Raises NotComparable, OSError."""
    path = folder / SCORES_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.MsgspecError as error:
        raise NotComparable(
            f"{path}: expected the figures that `decalage evaluate --output` writes, got {error}"
        ) from error


def check_same_test(folder: Path, report: Report, test: str, *, num_sentences: int, seed: int | None) -> None:
    """Raise NotComparable unless the folder's report is about these sentences, as far as its figures show."""
    found, wanted = (report.test, report.num_sentences, report.seed), (test, num_sentences, seed)
    if found != wanted:
        raise NotComparable(
            f"{folder}: expected figures of {num_sentences} sentences of {test} (seed {seed}), got "
            f"{report.num_sentences} of {report.test} (seed {report.seed}); one curve shows one test set"
        )
