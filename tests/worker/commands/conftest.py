"""Fixtures for the commands: a model that is loaded once, and a runner that catches what a command prints."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from worker import cli
from worker.commands import translation


class Ran(NamedTuple):
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Parse the whole standard output as one JSON text."""
        return json.loads(self.out)


Decalage = Callable[..., Ran]


@pytest.fixture(scope="session")
def model() -> translation.Model:
    """The shipped model, loaded once for all tests."""
    return translation.load_model("starter")


@pytest.fixture
def with_model(model: translation.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make commands use that model instead of loading it again; they load any other."""
    load_model = translation.load_model
    monkeypatch.setattr(translation, "load_model", lambda name: model if name == "starter" else load_model(name))


@pytest.fixture
def decalage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Decalage:
    """Run `decalage` with these arguments, in this process and without its environment variables."""
    for name in ("DECALAGE_REDIS", "DECALAGE_MODEL", "DECALAGE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        status = cli.main(arguments)
        return Ran(status, *capsys.readouterr())

    return run
