"""Fixtures for the benchmarks: a short text, and a shape whose random weights are quickly made."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from worker.commands import translation
from worker.commands.bench import models

Once = Callable[[ModuleType], None]


@pytest.fixture(scope="session")
def model() -> translation.Model:
    """The smaller of the shipped models in the place of the default one: what is tested here is the benchmarks."""
    return replace(translation.load_model("starter-draft"), name="starter")


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A file with two sentences."""
    path = tmp_path / "talk.txt"
    path.write_text("I do not know where he lives.\nThank you.\n")
    return str(path)


@pytest.fixture
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a shape, replaced by a small one with as many tokens as the shipped model."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "vocab_size": 16_000}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    monkeypatch.setitem(models.ARCHITECTURES, "smollm2-135m", models.ARCHITECTURES["smollm2-135m"] | sizes | heads)
    return "smollm2-135m"


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Once:
    """Make a benchmark measure once: what the test runs of it later shows the same report."""

    def remember(loop: ModuleType) -> None:
        measure, reports = loop.measure, list[Any]()

        def measured(*args: Any, **options: Any) -> Any:
            if not reports:
                reports.append(measure(*args, **options))
            return reports[0]

        monkeypatch.setattr(loop, "measure", measured)

    return remember
