"""The stopwatch around the stages of a pass."""

import pytest

from worker.commands.bench.forced import Forced
from worker.commands.bench.models import bare_runner, random_model
from worker.commands.bench.stages import STAGES, Stopwatch
from worker.core.rows import Row, SampleSpec
from worker.engine.runner import Runner

ROW = Row((0, 0), (5, 5), (5,), 0, 0, SampleSpec())


def test_stages_are_timed_while_it_watches(tiny_shape: str) -> None:
    """Afterwards everything is as it was."""
    before = Runner.run
    runner, watch = bare_runner(random_model(tiny_shape)), Stopwatch()
    runner.run([ROW])
    assert set(watch.ms_a_pass().values()) == {0}
    with watch.watching():
        runner.run([], dropped=[ROW.lane])
        runner.run([ROW])
    found = watch.ms_a_pass()
    assert found.keys() == set(STAGES)
    assert all((found[stage] > 0) is (stage in ("batch", "graph", "evaluation")) for stage in STAGES)
    assert Runner.run is before


def test_the_teacher_does_not_count(tiny_shape: str) -> None:
    """Neither its time nor its passes."""
    model = random_model(tiny_shape)
    forced, watch = Forced(bare_runner(model), bare_runner(model)), Stopwatch()
    with watch.watching():
        forced.run([ROW])
    assert watch._num_passes == 1


def test_an_error_ends_the_watching(tiny_shape: str) -> None:
    """And is not swallowed."""
    before = Runner.run
    with pytest.raises(ZeroDivisionError), Stopwatch().watching():
        1 / 0  # noqa: B018
    assert Runner.run is before
