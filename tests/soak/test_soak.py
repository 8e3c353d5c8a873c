"""The soak in small, and that it can fail."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.chaos.model import write_tiny_model
from tests.servers import real_servers
from tests.soak.__main__ import lines
from tests.soak.run import Setup, soak
from tests.soak.samples import LIMITS, Sample, growth, problems

FLAT = [Sample(5.0 * i, i, 200_000_000, 2_000_000, 40, 60, ()) for i in range(9)]


def test_a_short_soak_counts_what_there_is(tmp_path: Path) -> None:
    """Sessions end, every key has a TTL or an owner, and the table shows it."""
    model, data = tmp_path / "model", tmp_path / "data"
    model.mkdir()
    data.mkdir()
    program = next(iter(real_servers().values()))
    setup = Setup(
        program=program,
        model=write_tiny_model(model),
        directory=data,
        seconds=6.0,
        sessions=4,
        workers=1,
        words_per_s=20.0,
        every_s=1.0,
    )
    samples, failures = asyncio.run(soak(setup))
    assert failures == []
    assert samples[-1].sessions > 0
    assert all(sample.worker_bytes > 10_000_000 for sample in samples)
    assert [sample.immortal for sample in samples] == [()] * len(samples)
    assert samples[-1].keys > 3
    assert len(list(lines(samples, []))) == len(samples) + 2


@pytest.mark.parametrize("name", LIMITS)
def test_what_grows_is_told(name: str) -> None:
    """Flat figures are fine; one that goes on growing is a problem."""
    assert problems(FLAT) == []
    growing = [replace(one, **{name: getattr(one, name) * (1 + i)}) for i, one in enumerate(FLAT)]
    (problem,) = problems(growing)
    assert problem.startswith(name)
    assert growth(growing)[name] > LIMITS[name]


def test_a_key_that_stays_for_ever_is_told() -> None:
    """By its name."""
    assert problems([*FLAT, replace(FLAT[0], immortal=("decalage:{x}:target",))])[-1].endswith("decalage:{x}:target")


def test_too_short_a_soak_says_nothing() -> None:
    """Rather than that all is well."""
    with pytest.raises(ValueError, match="at least 3 samples"):
        growth(FLAT[:2])
