"""The two tiny models whose every forward pass was recorded from the paper's own code, loaded once."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker import StreamingModel, load

ARCHITECTURES = ("qwen2", "llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def golden_path(request: pytest.FixtureRequest) -> Path:
    """A golden model's directory."""
    return Path(__file__).parent / str(request.param)


@pytest.fixture(scope="session")
def golden_model(golden_path: Path) -> StreamingModel:
    """A golden model, through the public `load`."""
    return load(str(golden_path))[0]


@pytest.fixture(scope="session")
def golden_cases(golden_path: Path) -> list[dict[str, Any]]:
    """The recorded trajectories of that model."""
    cases: list[dict[str, Any]] = json.loads((golden_path / "trajectories.json").read_text(encoding="utf-8"))["cases"]
    return cases
