"""The examples in the docstrings of the core are true."""

import doctest
import importlib

import pytest

EXAMPLES = [
    "introductions",
    "languages",
    "normalize",
    "policies.wait_k",
    "rows",
    "runaway",
    "sentences",
    "session",
    "words",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_hold(name: str) -> None:
    """Every example of the module gives what it says."""
    result = doctest.testmod(importlib.import_module(f"worker.core.{name}"))
    assert result.attempted
    assert not result.failed
