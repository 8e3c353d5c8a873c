"""A small test set."""

import pytest

from worker.evaluation.corpus import Sentence

PAIRS = (
    ("Where is the station?", "Où est la gare ?"),
    ("I do not know where he lives.", "Je ne sais pas où il habite."),
    ("The weather is nice and we are going to the park.", "Il fait beau et nous allons au parc."),
    ("Thank you.", "Merci."),
)


@pytest.fixture(scope="session")
def corpus() -> list[Sentence]:
    """Four lines of English and French."""
    return [Sentence(line, *pair) for line, pair in enumerate(PAIRS, 1)]
