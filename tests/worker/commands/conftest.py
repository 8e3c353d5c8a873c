"""Fixtures for the commands: a model that is loaded once, and a runner that catches what a command prints."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from worker import cli
from worker.commands import translation


class Ran(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, all of it one JSON text."""
        return json.loads(self.out)


Decalage = Callable[..., Ran]


@pytest.fixture(scope="session")
def model() -> translation.Model:
    """The shipped model, loaded once for all tests."""
    return translation.load_model("starter")


@pytest.fixture
def with_model(model: translation.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands get that model instead of loading it again; any other is loaded as always."""
    load_model = translation.load_model
    monkeypatch.setattr(translation, "load_model", lambda name: model if name == "starter" else load_model(name))


@pytest.fixture
def decalage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Decalage:
    """Runs `decalage` with these arguments, in this process and with no variable set."""
    for name in ("DECALAGE_REDIS", "DECALAGE_MODEL", "DECALAGE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        status = cli.main(arguments)
        return Ran(status, *capsys.readouterr())

    return run
