"""Every command that the pages name exists, with the options that they give it."""

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.docs.pages import PAGES, ROOT, Page, page
from worker.app.config import Settings
from worker.commands import GROUPS, bench

TUNING: Final = page("deploy/tuning.md")


def _commands(page: Page) -> set[str]:
    """Return the inline commands, and those of `console` blocks; without forms such as `decalage drain [WORKER]`."""
    told = "".join(block.text.replace("\\\n", " ") for block in page.blocks if block.language == "console")
    named = [*page.inline_code, *re.findall(r"^\$ (.*)$", told, re.MULTILINE)]
    return {name for name in named if name.startswith("decalage ") and not re.search(r"[\[|>…]", name)}


COMMANDS: Final = sorted({(page.name, command) for page in PAGES for command in _commands(page)})


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_command_runs_like_that(name: str, command: str) -> None:
    """The program's own parser takes it; a command alone only has to be one."""
    _, command_name, *given = shlex.split(command)
    assert command_name in {each for group in GROUPS for each in group.commands}
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"worker.commands.{command_name}").add_arguments(parser)
    if given:
        parser.parse_args(given)


def test_all_benchmarks_of_an_engine_are_told() -> None:
    """Each has something to tune."""
    told = {command.split()[2] for command in _commands(TUNING) if command.startswith("decalage bench ")}
    assert told == set(bench.NAMES) - {"gateway", "train"}


def test_the_settings_to_tune_are_settings() -> None:
    """Those of a worker, and the one that is looked at before mlx is loaded."""
    known = {f"DECALAGE_{field.name.upper()}" for field in msgspec.structs.fields(Settings)} | {"DECALAGE_BLAS"}
    assert set(re.findall(r"DECALAGE_[A-Z_]+", TUNING.text)) <= known


def test_the_test_command() -> None:
    """The first page's test command is the one that continuous integration runs."""
    assert "`make test` is the test command" in page("README.md").text
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")


def test_make_targets() -> None:
    """Every `make` that a page names is a target."""
    targets = set(re.findall("^([a-z]+):", Path(ROOT, "Makefile").read_text(), re.MULTILINE))
    named = {code.split()[1] for page in PAGES for code in page.inline_code if code.startswith("make ")}
    assert named <= targets
