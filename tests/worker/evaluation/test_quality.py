"""BLEU, chrF and the paired bootstrap."""

import pytest

from worker.evaluation import quality

REFERENCES = [
    "Je ne sais pas où il habite.",
    "Il fait beau et nous allons au parc.",
    "Le train de Lyon part à huit heures.",
    "Elle a oublié son parapluie chez nous.",
]
WORSE = [text.replace("où il", "il où").replace("au", "à le").replace("train", "gare") for text in REFERENCES]


def test_a_perfect_translation_scores_100() -> None:
    """By both metrics, each with sacrebleu's signature."""
    bleu, chrf = quality.bleu(REFERENCES, REFERENCES, "fr"), quality.chrf(REFERENCES, REFERENCES)
    assert [bleu.value, chrf.value] == pytest.approx([100, 100])
    assert bleu.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert chrf.signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_what_differs_scores_less() -> None:
    """And letters in the wrong case count."""
    assert 0 < quality.bleu(WORSE, REFERENCES, "fr").value < 100
    assert quality.bleu([text.upper() for text in REFERENCES], REFERENCES, "fr").value < 50
    assert quality.bleu([""] * 4, REFERENCES, "fr").value == 0


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("de", "13a"), ("zh", "zh"), ("zh-Hans", "zh"), ("ja", "char"), ("th", "char")]
)
def test_the_tokenizer_is_the_languages(language: str, tokenizer: str) -> None:
    """Scripts without spaces would be one long word otherwise."""
    assert f"tok:{tokenizer}|" in quality.bleu(["今日は。"], ["今日は。"], language).signature


def test_texts_that_do_not_pair_are_refused() -> None:
    """One translation for each reference, at least one of both."""
    with pytest.raises(ValueError, match="got 1 for 4 references"):
        quality.bleu(["Oui."], REFERENCES, "fr")
    with pytest.raises(ValueError, match="got 0 for 0 references"):
        quality.chrf([], [])


def test_systems_are_compared_with_the_first() -> None:
    """A system equal to the baseline differs by nothing, one worse on every line by something that is no chance."""
    sources = {"old": REFERENCES * 5, "same": REFERENCES * 5, "worse": WORSE * 5}
    found = quality.paired_bootstrap(sources, REFERENCES * 5, "fr", num_samples=200)
    assert list(found) == ["same", "worse"]
    for same, worse in zip(found["same"], found["worse"], strict=True):
        assert same.system == same.baseline == pytest.approx(100)
        assert same.p_value == 1
        assert worse.system < worse.baseline
        assert worse.p_value < 0.05
    bleu, chrf = found["worse"]
    assert (bleu.metric, chrf.metric) == ("BLEU", "chrF2")
    assert bleu.system == pytest.approx(quality.bleu(WORSE * 5, REFERENCES * 5, "fr").value)
    assert "bs:200|seed:12345" in bleu.signature


def test_one_system_is_no_comparison() -> None:
    """A baseline alone."""
    with pytest.raises(ValueError, match="got 1 in all"):
        quality.paired_bootstrap({"old": REFERENCES}, REFERENCES, "fr")
