"""`decalage calibrate`."""

import json
from pathlib import Path

import pytest

from tests.worker.commands.conftest import Decalage
from worker.engine import loading
from worker.engine.text.card import read_card
from worker.evaluation import calibration
from worker.evaluation.calibration import Calibration, HeadScore

STARTER = loading.model_path("starter")
LINES = (
    ("Where is the station?", "Où est la gare ?"),
    ("I do not know where he lives.", "Je ne sais pas où il habite."),
    ("Thank you.", "Merci."),
    ("The weather is nice and we are going to the park.", "Il fait beau et nous allons au parc."),
)


@pytest.fixture
def test_set(tmp_path: Path) -> str:
    """The same four sentences three times."""
    path = tmp_path / "talk.en-fr.tsv"
    path.write_text("".join(f"{source}\t{reference}\n" for source, reference in 3 * LINES), encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped model in another folder."""
    path = tmp_path / "model"
    path.mkdir()
    for file in STARTER.iterdir():
        if file.suffix in (".json", ".safetensors") and file.name != "decalage.json":
            (path / file.name).symlink_to(file)
    (path / "decalage.json").write_bytes((STARTER / "decalage.json").read_bytes())
    return path


def found(*, of_all: float) -> Calibration:
    """Two of twenty heads align in 60 %."""
    heads = tuple(HeadScore(i % 5, i // 5, 0.6 - i / 100) for i in range(20))
    return Calibration(
        heads=heads, scores_together={1: 0.6, 2: 0.65}, score_of_all=of_all, num_sentences=12, num_tokens=99
    )


def test_the_heads_are_in_the_card_and_are_read(
    decalage: Decalage, test_set: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets all scores, people a table; whoever loads the model then has the chosen heads."""
    measured = calibration.calibrate
    scores: list[Calibration] = []

    def calibrate(*args: object, **options: object) -> Calibration:
        scores.append(measured(*args, **options))  # type: ignore[arg-type]
        return found(of_all=0.5)

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    told = decalage("calibrate", str(folder), "--test", test_set, "--json").json
    assert scores[0].num_sentences == 12
    assert scores[0].heads[0].score > 0.4
    assert (told["model"], told["test"], told["card"]) == (str(folder), "talk.en-fr.tsv", str(folder / "decalage.json"))
    assert [(head["layer"], head["head"]) for head in told["chosen"]] == [(0, 0), (1, 0)]
    assert told["scores_together"] == {"1": 0.6, "2": 0.65}
    assert read_card(folder).alignment_heads == ((0, 0), (1, 0))
    assert loading.load(str(folder))[0].alignment_heads == ((0, 0), (1, 0))
    shown = decalage("calibrate", str(folder), "--test", test_set).out
    for text in ("layer", "60.0%", "The best 2 together: 65.0%. All 20: 50.0%."):
        assert text in shown
    generated = decalage("generate", "--model", str(folder), "--policy", "align-att-1-1", "--streaming", "--to", "fr",
                         "--prompt", "Thank you.")  # fmt: skip
    assert "Merci" in generated.out


def test_nothing_is_written_where_no_head_is_better(
    decalage: Decalage, test_set: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason, and a code for programs."""
    monkeypatch.setattr(calibration, "calibrate", lambda *_, **__: found(of_all=0.65))
    ran = decalage("calibrate", str(folder), "--test", test_set, "--json")
    assert ran.status == 1
    assert ran.json["error"]["code"] == "no_alignment"
    assert "all of them together (65%)" in ran.err
    assert read_card(folder).alignment_heads == ()


def test_a_card_of_another_model_is_refused(decalage: Decalage, folder: Path) -> None:
    """By its name, with the remedy."""
    card = json.loads((folder / "decalage.json").read_text(encoding="utf-8"))
    (folder / "decalage.json").write_text(json.dumps({**card, "alignment_heads": [[0, 1], [40, 0]]}), encoding="utf-8")
    ran = decalage("generate", "--model", str(folder), "--prompt", "Translate to French: Yes.")
    assert ran.status == 1
    assert "(40, 0) among its alignment heads, expected a layer and a head up to" in ran.err
    assert "decalage calibrate" in ran.err


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("Yes.\tOui.\nNo.\n", (), "line 2: expected two columns"),
        ("Yes.\tOui.\n", (), "tokens that can be aligned, at least 50"),
        ("", (), "holds no sentences"),
        ("Yes.\tOui.\n", ("--to", "es"), "target_language 'es'"),
    ],
)
@pytest.mark.usefixtures("with_model")
def test_bad_files_are_named(
    decalage: Decalage, tmp_path: Path, text: str, options: tuple[str, ...], message: str
) -> None:
    """In one line, before anything is measured."""
    path = tmp_path / "bad.en-fr.tsv"
    path.write_text(text, encoding="utf-8")
    ran = decalage("calibrate", "starter", "--test", str(path), *options)
    assert ran.status == 1
    assert ran.err.count("\n") == 1
    assert message in ran.err
