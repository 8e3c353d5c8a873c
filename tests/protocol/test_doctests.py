"""The examples in the docstrings of the protocol are true."""

import doctest
import importlib

import pytest

EXAMPLES = ["events", "grammar", "hosts", "keys", "options", "policies", "redis_url"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_hold(name: str) -> None:
    """Every example of the module gives what it says."""
    result = doctest.testmod(importlib.import_module(f"protocol.{name}"))
    assert result.attempted
    assert not result.failed
