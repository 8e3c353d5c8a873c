"""The service definitions in deploy/ start the real command and let it drain."""

import configparser
import plistlib
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
DEPLOY: Final = ROOT / "deploy"
MIN_DRAIN_S: Final = 10
"""Least time for a drain: a worker that is killed sooner would cause a failover at every stop."""


class _Unit(configparser.RawConfigParser):
    """A systemd unit: names keep their case and may occur more than once (the last one is kept)."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit() -> _Unit:
    """The parsed systemd unit."""
    parsed = _Unit()
    parsed.read_string((DEPLOY / "decalage.service").read_text())
    return parsed


def agent() -> dict[str, Any]:
    """The parsed launchd agent."""
    parsed: dict[str, Any] = plistlib.loads((DEPLOY / "launchd" / "decalage.plist").read_bytes())
    return parsed


def test_the_program_is_the_installed_console_script() -> None:
    """Both run `decalage serve --redis …`, by the name under which the project installs it."""
    [name] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for command in (unit()["Service"]["ExecStart"].split(), agent()["ProgramArguments"]):
        program, *arguments = command
        assert Path(program).is_absolute()
        assert Path(program).name == name
        assert arguments[:2] == ["serve", "--redis"]
        assert len(arguments) == 3


def test_a_stop_drains() -> None:
    """A stop is a SIGTERM, with time to drain before the SIGKILL."""
    service = unit()["Service"]
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) >= MIN_DRAIN_S
    assert agent()["ExitTimeOut"] >= MIN_DRAIN_S


def test_a_crash_starts_it_again_and_a_drain_does_not() -> None:
    """Both restart after a failure only."""
    assert unit()["Service"]["Restart"] == "on-failure"
    assert agent()["KeepAlive"] == {"SuccessfulExit": False}


def test_the_unit_starts_with_the_machine() -> None:
    """Both run without anybody's asking."""
    assert unit()["Install"]["WantedBy"] == "multi-user.target"
    assert agent()["RunAtLoad"] is True


def test_the_variable_in_the_command_has_a_default() -> None:
    """The unit's command names one variable, which the unit sets, and a file may set anew."""
    text = (DEPLOY / "decalage.service").read_text()
    assert "${DECALAGE_REDIS}" in unit()["Service"]["ExecStart"]
    assert "\nEnvironment=DECALAGE_REDIS=redis://" in text
    assert unit()["Service"]["EnvironmentFile"].startswith("-/")
