"""Which values a translation keeps, and what the command tells of it."""

from pathlib import Path

import pytest

from worker.evaluation.run import Run, Translated
from worker.evaluation.values import Kept, is_kept, kept_values

SPOKEN = Path(__file__).parents[1] / "models" / "spoken.tsv"


@pytest.mark.parametrize(
    ("value", "language", "kept", "lost"),
    [
        (
            "1,234.5",
            "fr",
            ["1 234,5", "1234,5.", "(1,234.5)", "1\u202f234,5"],
            ["1.234", "1 234,56", "1 234"],
        ),
        ("1,234.5", "de", ["1.234,5", "1234,5"], ["1.234.5", "11.234,5"]),
        ("12", "fr", ["le 12.", "12 %", "à 12, et"], ["112", "12,5", "12.5", "1,12", "x12"]),
        ("9:30", "fr", ["9:30", "9 h 30", "9h30."], ["19:30", "9:301"]),
        ("9:30", "de", ["9:30 Uhr", "9.30 Uhr"], ["9 30"]),
        ("March", "de", ["14. März"], ["Marsch"]),
        ("1", "fr", ["1er avril"], ["11"]),
        ("https://a.example/x", "fr", ["https://a.example/x."], ["https://a.example/xy", "https://a.example"]),
        ("B42", "de", ["Gate B42."], ["b42", "B421", "AB42"]),
    ],
)
def test_writings(value: str, language: str, kept: list[str], lost: list[str]) -> None:
    """A value counts where it stands as a whole, in one of its writings."""
    assert all(is_kept(value, text, language) for text in kept)
    assert not any(is_kept(value, text, language) for text in lost)


def test_every_value_of_the_spoken_lines_stands_in_its_source() -> None:
    """200 lines of our own, each with a source and values that it has, none of them twice."""
    rows = [line.split("\t") for line in SPOKEN.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len({source for source, _ in rows}) == 200
    assert all(
        is_kept(value, source, "en") or value in source for source, values in rows for value in values.split("|")
    )


def sentence(prediction: str, values: str) -> Translated:
    """A translated line with these values."""
    return Translated(
        line=1, source="s", reference=values, prediction=prediction, source_words=1, reference_words=1, delays=(1,),
        compute_ms=(1.0,), finish_reason="stop",
    )  # fmt: skip


def test_the_share() -> None:
    """It is of values, not of lines; what is lost is told with its line."""
    kept = kept_values(Run("wait-3", (sentence("a 7,5 b 9", "7.5|8|9"), sentence("x", "x")), 1.0), "fr")
    assert isinstance(kept, Kept)
    assert (kept.num_kept, kept.num_values, kept.share) == (3, 4, 0.75)
    assert [loss.lost for loss in kept.losses] == [("8",)]
