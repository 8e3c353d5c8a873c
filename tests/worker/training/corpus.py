"""A toy language pair of our own, and runs over it that take a second."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from worker.training.events import Event, Stepped
from worker.training.files import DataFile
from worker.training.recipe import Recipe, Shape
from worker.training.train import train

WHO = {"I": "je", "you": "tu", "we": "nous", "Anna": "Anna"}
DOES = {"see": "vois", "want": "veux", "like": "aime"}
WHAT = {"apples.": "des pommes.", "the 42 boats.": "les 42 bateaux.", "music.": "la musique."}
ROWS = [
    (f"{who} {does} {what}", f"{WHO[who]} {DOES[does]} {WHAT[what]}") for who, does, what in product(WHO, DOES, WHAT)
]
TINY = Shape(hidden=32, layers=2, heads=2, mlp=64, vocabulary=300, max_positions=64)


def write_tsv(path: Path, rows: Sequence[Sequence[str]] = ROWS) -> Path:
    """Write a TSV file of these rows."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(directory: Path, **options: Any) -> Recipe:
    """Return the recipe of a tiny run on the toy rows, with its files in `directory`."""
    file = DataFile(str(write_tsv(directory / "toy.tsv")), "fr")
    small: dict[str, Any] = {
        "steps": 8,
        "shape": TINY,
        "wait_k": (1, None),
        "tokens_per_batch": 256,
        "peak_rate": 0.01,
        "warmup_steps": 4,
        "valid_every": 4,
    }
    return Recipe(train=(file,), valid=(file,), **{**small, **options})


class Told(list[Event]):
    """The events that a run reports."""

    def of(self, kind: type[Any]) -> list[Any]:
        """Those of one kind."""
        return [event for event in self if isinstance(event, kind)]


def run(recipe: Recipe, directory: Path, *, steps: int | None = None, resume: bool = False) -> Told:
    """Run the recipe, at most up to that step."""
    told = Told()
    stop = partial(_is_done, told, steps)
    train(recipe, directory, told.append, stop, resume=resume)
    return told


def _is_done(told: Told, steps: int | None) -> bool:
    return steps is not None and any(event.step >= steps for event in told.of(Stepped))
