"""The tuning guide names commands and settings that there are."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Final

import msgspec
import pytest

from worker.app.config import Settings
from worker.commands import bench

ROOT: Final = Path(__file__).resolve().parents[1]
GUIDE: Final = (ROOT / "deploy" / "tuning.md").read_text(encoding="utf-8")
COMMANDS: Final = sorted(set(re.findall(r"`decalage bench ([^`]+)`", GUIDE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_benchmarks_run_like_that(command: str) -> None:
    """With these options."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    bench.add_arguments(parser)
    assert callable(parser.parse_args(shlex.split(command)).run)


def test_all_benchmarks_of_an_engine_are_told() -> None:
    """Each has something to tune."""
    assert {command.split()[0] for command in COMMANDS} == set(bench.NAMES) - {"train"}


def test_its_settings_are_settings() -> None:
    """Those of a worker, and the one that is looked at before mlx is loaded."""
    known = {f"DECALAGE_{field.name.upper()}" for field in msgspec.structs.fields(Settings)} | {"DECALAGE_BLAS"}
    named = set(re.findall(r"DECALAGE_[A-Z_]+", GUIDE))
    assert named <= known
