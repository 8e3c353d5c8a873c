"""`decalage compare`."""

import pytest

from tests.worker.commands.conftest import Decalage

PROMPT = "Translate to French: The weather is nice and we are going to the park."

pytestmark = pytest.mark.usefixtures("with_model")


def test_each_k_is_translated_on_its_own(decalage: Decalage) -> None:
    """The object holds the source words and one translation for each k, in the order given, none twice."""
    facts = decalage("compare", "--prompt", PROMPT, "--wait-k", "3", "1", "3", "--json").json
    assert [found["wait_k"] for found in facts["translations"]] == [3, 1]
    assert facts["source_words"][:2] == ["The", "weather"]
    for found in facts["translations"]:
        assert found["words"][0]["source_words_read"] == found["wait_k"]
        assert found["average_lagging"] is not None


def test_compare_and_generate_agree(decalage: Decalage) -> None:
    """The same k gives the same words in both commands."""
    compared = decalage("compare", "--prompt", PROMPT, "--wait-k", "3", "--json").json["translations"][0]
    generated = decalage("generate", "--streaming", "--wait-k", "3", "--prompt", PROMPT, "--json").json
    assert compared["words"] == generated["words"]


def test_the_default_is_three_ks_side_by_side(decalage: Decalage) -> None:
    """On a terminal: numbered source words, a column for each k, the translations in full."""
    ran = decalage("compare", "--prompt", PROMPT)
    assert ran.status == 0
    assert "1 The  2 weather  3 is" in ran.out
    for k in (1, 3, 5):
        assert ran.out.count(f"k = {k}") == 2
    assert ran.out.count("average lagging") == 3


def test_the_end_of_an_earlier_sentence_counts_on(decalage: Decalage) -> None:
    """Source words are counted through the whole text, though the model takes it sentence by sentence."""
    two = f"{PROMPT} Where is the station?"
    found = decalage("compare", "--prompt", two, "--wait-k", "3", "--json").json["translations"][0]
    read = [word["source_words_read"] for word in found["words"]]
    assert read == sorted(read)
    assert read[-1] == 15
    assert "gare. Où" in found["text"]


def test_errors(decalage: Decalage) -> None:
    """A k below 1 is a usage error, a prompt that the model cannot follow is not."""
    assert decalage("compare", "--prompt", PROMPT, "--wait-k", "3", "0").status == 2
    assert decalage("compare", "--prompt", "Hello").status == 1
