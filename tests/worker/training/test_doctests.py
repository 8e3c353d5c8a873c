"""The examples in the docstrings."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "name",
    ["worker.training.files", "worker.training.recipe", "worker.training.tokenizer", "worker.commands.train_view"],
)
def test_examples_hold(name: str) -> None:
    """Each module has examples, and they do what they say."""
    ran = doctest.testmod(import_module(name))
    assert ran.attempted > 0
    assert not ran.failed
