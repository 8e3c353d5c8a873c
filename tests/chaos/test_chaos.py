"""`make chaos` in small: real workers and a real Redis under a few faults; and proof that the check can fail."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.choices import clear_talks
from tests.chaos.faults import Fault, Kind
from tests.chaos.model import write_tiny_model
from tests.chaos.report import Report, lines, report
from tests.chaos.run import Outcome, Setup, run
from tests.chaos.talks import Talk
from tests.servers import real_servers

LEASE_MS = 600


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny model."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def play(model: Path, directory: Path, talks: Sequence[Talk], **changes: object) -> Outcome:
    """A run on the first real Redis of this machine."""
    directory.mkdir()
    program = next(iter(real_servers().values()))
    setup = Setup(program=program, model=model, directory=directory, seed=3, **changes)  # type: ignore[arg-type]
    return asyncio.run(run(setup, talks))


@pytest.fixture(scope="module")
def clean(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Some talks without faults."""
    return play(model, tmp_path_factory.mktemp("clean") / "data", clear_talks(model, 3, 8, 36))


def under_faults(model: Path, tmp_path: Path, clean: Outcome, plan: Sequence[Fault], **changes: object) -> Report:
    """The same talks under these faults, one after the other."""
    setup = {"plan": plan, "is_in_turn": True, "lease_ms": LEASE_MS, "words_per_s": 6.0, **changes}
    talks = [speaker.talk for speaker in clean.speakers.values()]
    return report("redis", clean, play(model, tmp_path / "faulty", talks, **setup), lease_ms=LEASE_MS)


def faults(*kinds: Kind) -> list[Fault]:
    """In this order."""
    return [Fault(0, kind) for kind in kinds]


def test_nothing_is_lost_when_a_worker_dies_and_another_sleeps(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A SIGKILL, a zombie that wakes after its lease, a zombie whose commits come late, and lost replies: every
    stream is what it is without them, and the zombie's commits were fenced.
    """
    plan = faults("lose", "kill", "jump", "stop", "hold")
    found = under_faults(model, tmp_path, clean, plan, workers=2)
    assert found.problems == []
    assert found.fenced_commits > 0
    assert found.replayed_words > 0
    assert "0 lost, 0 duplicated, 0 reordered, 0 different" in "\n".join(lines([found], 3))


def test_without_the_fence_it_fails(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A commit script that publishes for whoever asks: the zombie's late commit passes, and the run says so."""
    found = under_faults(model, tmp_path, clean, faults("hold"), workers=2, broken="fence")
    assert found.stale_commits > 0
    assert any("stale epoch" in problem for problem in found.problems)


def test_without_the_id_check_it_fails(model: Path, tmp_path: Path, clean: Outcome) -> None:
    """A commit script that appends whatever comes: a commit whose reply was lost is there twice."""
    found = under_faults(model, tmp_path, clean, faults("lose", "lose", "lose"), broken="ids", limit_s=20)
    assert found.findings.duplicated > 0
    assert any("duplicated" in problem for problem in found.problems)
