"""`make chaos` in small: real workers and a real Redis under a few faults; and proof that the check can fail."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.faults import Fault
from tests.chaos.model import write_tiny_model
from tests.chaos.report import Report, lines, report
from tests.chaos.run import Outcome, Setup, run
from tests.chaos.talks import Talk, make_talks
from tests.servers import real_servers

LEASE_MS = 600
TALKS = make_talks(3, 8, 16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny model."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def play(model: Path, directory: Path, talks: Sequence[Talk], **changes: object) -> Outcome:
    """A run on the first real Redis of this machine."""
    directory.mkdir()
    program = next(iter(real_servers().values()))
    setup = Setup(program=program, model=model, directory=directory, seed=3, limit_s=60, **changes)  # type: ignore[arg-type]
    return asyncio.run(run(setup, talks))


@pytest.fixture(scope="module")
def clean(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The talks without faults."""
    return play(model, tmp_path_factory.mktemp("clean") / "data", TALKS)


def under_faults(model: Path, tmp_path: Path, clean: Outcome, plan: Sequence[Fault], **changes: object) -> Report:
    """The same talks under these faults."""
    faulty = play(model, tmp_path / "faulty", TALKS, plan=plan, lease_ms=LEASE_MS, words_per_s=3.0, **changes)
    return report("redis", clean, faulty, lease_ms=LEASE_MS)


def test_nothing_is_lost_when_a_worker_dies_and_another_sleeps(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A SIGKILL, a zombie that wakes after its lease, a zombie whose commits come late, and lost replies: every
    stream is what it is without them, and the zombie's commits were fenced.
    """
    plan = [Fault(0.3, "lose"), Fault(0.5, "kill"), Fault(1.6, "stop"), Fault(2.0, "jump"), Fault(3.5, "hold")]
    found = under_faults(model, tmp_path, clean, plan, workers=2)
    assert found.problems == []
    assert found.fenced_commits > 0
    assert found.replayed_words > 0
    assert "0 lost, 0 duplicated, 0 reordered, 0 different" in "\n".join(lines([found], 3))


def test_without_the_fence_it_fails(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A commit script that publishes for whoever asks: the zombie's late commit passes, and the run says so."""
    found = under_faults(model, tmp_path, clean, [Fault(0.5, "hold")], workers=2, broken="fence")
    assert found.stale_commits > 0
    assert any("stale epoch" in problem for problem in found.problems)


def test_without_the_id_check_it_fails(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A commit script that appends whatever comes: a commit whose reply was lost is there twice."""
    plan = [Fault(0.4 * i, "lose") for i in range(1, 12)]  # not every commit has an event in it
    found = under_faults(model, tmp_path, clean, plan, broken="ids")
    assert found.findings.duplicated > 0
    assert any("duplicated" in problem for problem in found.problems)
