"""The shipped model, loaded once for all tests of the worker."""

import pytest

from worker.engine.loading import load, load_vocabulary
from worker.engine.model import StreamingModel
from worker.engine.text.tokenizer import Vocabulary


@pytest.fixture(scope="session")
def starter() -> StreamingModel:
    """The shipped model."""
    return load("starter")[0]


@pytest.fixture(scope="session")
def small() -> StreamingModel:
    """The smaller of the shipped models, with the same vocabulary: for laws that hold for any model."""
    return load("starter-draft")[0]


@pytest.fixture(scope="session")
def starter_vocabulary() -> Vocabulary:
    """The words and tokens of both shipped models."""
    return load_vocabulary("starter")
