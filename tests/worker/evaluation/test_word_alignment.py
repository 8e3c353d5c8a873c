"""Word alignment by what occurs together."""

import random

from hypothesis import given
from hypothesis import strategies as st

from worker.evaluation.word_alignment import align

WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_links_are_one_to_one(pairs: list[tuple[list[str], list[str]]]) -> None:
    """Whatever the text: of each pair, no word has two links, and none leads outside."""
    found = align(pairs)
    assert len(found) == len(pairs)
    for (source, target), links in zip(pairs, found, strict=True):
        assert set(links) <= set(range(len(target)))
        assert set(links.values()) <= set(range(len(source)))
        assert len(set(links.values())) == len(links)


def test_a_translation_word_by_word_is_found_in_any_order() -> None:
    """Two hundred sentences of twenty words: more than nine links in ten are right, of most words, although neighbours
    have changed places.
    """
    dice = random.Random(5)
    pairs, truth = [], []
    for _ in range(200):
        source = [f"w{dice.randrange(20)}" for _ in range(dice.randrange(4, 10))]
        order = list(range(len(source)))
        for i in range(0, len(order) - 1, 2):
            if dice.random() < 0.5:
                order[i], order[i + 1] = order[i + 1], order[i]
        pairs.append((source, [source[i].upper() for i in order]))
        truth.append(order)
    found = align(pairs)
    links = [pairs[n][0][i] == pairs[n][0][truth[n][j]] for n, each in enumerate(found) for j, i in each.items()]
    assert sum(links) > 0.9 * len(links)
    assert len(links) > 0.8 * sum(map(len, truth))
