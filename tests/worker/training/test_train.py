"""Whole runs on a toy language pair, from files to a model that is served."""

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from msgspec.structs import replace

from protocol import OutputTextDelta, Session, WaitK
from tests.worker.training.corpus import ROWS, TINY, recipe, run, write_tsv
from worker.core.rows import Refused
from worker.engine.loading import load, load_vocabulary
from worker.engine.text.card import read_card
from worker.library.speculative_decoding import SpeculativeConfig, SpeculativeDecodingEngine
from worker.library.words import generate_words
from worker.training import checkpoint
from worker.training.batches import epoch_batches
from worker.training.data import Encoder, load_corpus
from worker.training.errors import CheckpointError, LossError, TrainingError
from worker.training.events import Loaded, Note, Saved, Stepped, Validated
from worker.training.files import DataFile
from worker.training.history import LOG, read_log
from worker.training.loop import Trainer
from worker.training.recipe import Recipe, Shape


def losses(events: list[Any]) -> list[tuple[int, float]]:
    """The loss curve: training losses by step."""
    return [(event.step, event.loss) for event in events if isinstance(event, Stepped)]


def weights(directory: Path) -> dict[str, mx.array]:
    """The weights of a model directory."""
    loaded: Any = mx.load(str(directory / "model.safetensors"))
    return dict(loaded)


def translate(directory: Path, text: str, wait_k: int) -> str:
    """What the engine writes for a text with a trained model."""
    model, tokenizer = load(str(directory))
    session = Session(target_language="fr", mode="streaming", policy=WaitK(k=wait_k), segmentation="manual")
    vocabulary = load_vocabulary(str(directory), tokenizer)
    deltas = generate_words(model, vocabulary, session, text)
    return "".join(delta.text for delta in deltas if isinstance(delta, OutputTextDelta))


def test_it_overfits_a_toy_language_and_is_served(tmp_path: Path) -> None:
    """After some seconds the loss is near zero, and the engine translates the rows word by word, wait-1 and wait-3."""
    out = tmp_path / "model"
    told = run(recipe(tmp_path, steps=100, label_smoothing=0.0, tokens_per_batch=768, valid_every=1000), out)
    assert told.of(Stepped)[-1].loss < 0.1
    assert max(told.of(Validated)[-1].loss.values()) < 0.1
    for source, target in ROWS[::13]:
        assert [translate(out, source, wait_k) for wait_k in (1, 3)] == [target] * 2


def test_a_resumed_run_has_the_same_loss_curve(tmp_path: Path) -> None:
    """Stopped at step 5 and resumed, the run tells the same losses and ends with the same weights."""
    plan = recipe(tmp_path, steps=10, accumulate=2, average=0.7, valid_every=3, wait_k=(1, 2, 3, None))
    whole = run(plan, tmp_path / "whole")
    first = run(plan, tmp_path / "parts", steps=5)
    second = run(plan, tmp_path / "parts", resume=True)
    assert losses(first)[-1][0] == 5
    assert losses([*first, *second]) == losses(whole)
    assert [event.wait_k for event in (*first.of(Stepped), *second.of(Stepped))] == [
        e.wait_k for e in whole.of(Stepped)
    ]
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(mx.array_equal(one[name], other[name]) for name in one | other)
    assert losses(read_log(tmp_path / "parts" / LOG)) == losses(whole)


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps behind the checkpoint are made again, and stand in the log once."""
    plan, out = recipe(tmp_path, steps=7, valid_every=3), tmp_path / "model"
    whole = run(plan, tmp_path / "whole")
    average = Trainer._average

    def die(self: Trainer) -> None:
        if self.progress.step == 5:
            raise KeyboardInterrupt
        average(self)

    monkeypatch.setattr(Trainer, "_average", die)
    with pytest.raises(KeyboardInterrupt):
        run(plan, out)
    monkeypatch.undo()
    assert losses(run(plan, out, resume=True))[0][0] == 4
    assert losses(read_log(out / LOG)) == losses(whole)


def test_accumulated_passes_equal_fewer_larger_ones(tmp_path: Path) -> None:
    """The loss of a step is the mean over the labels of its passes, whatever the number of passes."""
    pairs = len(ROWS)
    many = run(recipe(tmp_path, steps=1, tokens_per_batch=1, accumulate=pairs, wait_k=(2,)), tmp_path / "many")
    large = recipe(tmp_path, steps=1, tokens_per_batch=10_000, wait_k=(2,))
    corpus, _ = load_corpus(large.train, Encoder(load_vocabulary(str(tmp_path / "many"))))
    few = len(epoch_batches(corpus, large.tokens_per_batch, large.seed, 0))
    assert few < pairs / 3
    whole = run(replace(large, accumulate=few), tmp_path / "whole")
    one, other = many.of(Stepped)[0], whole.of(Stepped)[0]
    assert one.num_tokens == other.num_tokens
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_the_directory_tells_all_about_the_model(tmp_path: Path) -> None:
    """Card, README, log and curve: data by its bare name, recipe, k's and losses; weights in bf16."""
    write_tsv(tmp_path / "toy.tsv")
    out = tmp_path / "model"
    told = run(recipe(tmp_path, steps=3), out)
    card = read_card(out)
    assert (card.position_offset, card.trained, card.wait_k, card.max_segment_words) == (0, True, (1,), 5)
    facts = json.loads((out / "decalage.json").read_text())["training"]
    assert facts["data"] == [{"file": "toy.tsv", "language": "fr", "rows": len(ROWS)}]
    assert facts["valid_loss"].keys() == {"1", "full"}
    readme = (out / "README.md").read_text()
    assert all(said in readme for said in ("--train toy.tsv@fr", "--wait-k 1 full", "3 of 3 steps", "| k | 1 | full |"))
    assert str(tmp_path) not in readme
    assert {array.dtype for array in weights(out).values()} == {mx.bfloat16}
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG") or told.of(Note)
    assert [event.used for event in told.of(Loaded)] == [len(ROWS)] * 2
    assert told.of(Saved)[-1].path == str(out / "model.safetensors")


def test_fine_tuning_starts_from_the_model(tmp_path: Path) -> None:
    """The first loss is the old model's; tokenizer, prompt and words stay its own; a new φ is taken over."""
    old = tmp_path / "old"
    before = run(recipe(tmp_path, steps=40, valid_every=100, wait_k=(2,)), old).of(Validated)[-1]
    tuned = recipe(tmp_path, steps=2, start=str(old), wait_k=(2,), peak_rate=1e-5, average=0.0)
    after = run(tuned, tmp_path / "new").of(Validated)[-1]
    assert after.loss["2"] == pytest.approx(before.loss["2"], abs=0.05)
    assert read_card(tmp_path / "new").prompt == read_card(old).prompt
    assert (tmp_path / "new" / "tokenizer.json").read_bytes() == (old / "tokenizer.json").read_bytes()
    moved = recipe(tmp_path, steps=1, start=str(old), position_offset=32)
    run(moved, tmp_path / "moved")
    assert load(str(tmp_path / "moved"))[0].position_offset == 32


def test_a_language_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    """Fine-tuning for another language than the model's own ends before it begins."""
    run(recipe(tmp_path, steps=1), tmp_path / "old")
    file = DataFile(str(tmp_path / "toy.tsv"), "it")
    plan = Recipe(train=(file,), valid=(file,), steps=1, start=str(tmp_path / "old"))
    with pytest.raises(Refused, match="fr"):
        run(plan, tmp_path / "new")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message tells the step; the checkpoint from before is whole and has finite weights."""
    plan, out = recipe(tmp_path, steps=9, valid_every=2), tmp_path / "model"
    rate = Recipe.rate
    monkeypatch.setattr(Recipe, "rate", lambda self, step: math.inf if step == 2 else rate(self, step))
    with pytest.raises(LossError, match="step 4: the loss is nan"):
        run(plan, out)
    arrays: Any = mx.load(str(out / checkpoint.FILE))
    assert all(bool(mx.isfinite(array).all()) for array in arrays.values())
    monkeypatch.undo()
    assert losses(run(plan, out, resume=True))[0][0] == 3


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that cannot be written is an error that says so; the one before goes on being usable."""
    plan, out = recipe(tmp_path, steps=4), tmp_path / "model"
    run(plan, out, steps=2)
    good = (out / checkpoint.FILE).read_bytes()

    def full(path: str, *_: Any, **__: Any) -> None:
        Path(path).write_bytes(b"half a f")
        raise RuntimeError("[write] No space left on device")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(CheckpointError, match=r"No space left.*--resume"):
        run(plan, out, resume=True)
    monkeypatch.undo()
    assert (out / checkpoint.FILE).read_bytes() == good
    assert sorted(path.name for path in out.glob("*.safetensors")) == [checkpoint.FILE, "model.safetensors"]
    assert losses(run(plan, out, resume=True))[-1][0] == 4


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The message names the array and both shapes."""
    plan, out = recipe(tmp_path, steps=2), tmp_path / "model"
    run(plan, out, steps=1)
    arrays: Any = mx.load(str(out / checkpoint.FILE), return_metadata=True)
    arrays[0]["model.model.norm.weight"] = mx.zeros(7)
    mx.eval(arrays[0])
    mx.save_safetensors(str(out / checkpoint.FILE), arrays[0], metadata=arrays[1])
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is \(7,\) there, expected \(32,\)"):
        run(plan, out, resume=True)


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None])
def test_resuming_needs_a_checkpoint(content: bytes | None, tmp_path: Path) -> None:
    """None there, or one that is broken: both are said, with the remedy."""
    if content is not None:
        (tmp_path / checkpoint.FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match="without --resume"):
        run(recipe(tmp_path), tmp_path, resume=True)


def test_a_run_never_overwrites_another(tmp_path: Path) -> None:
    """A directory with a model is refused; so is going on with another recipe, which names what differs."""
    plan, out = recipe(tmp_path, steps=2), tmp_path / "model"
    run(plan, out, steps=1)
    with pytest.raises(TrainingError, match="already holds checkpoint"):
        run(plan, out)
    with pytest.raises(CheckpointError, match="steps, seed differ"):
        run(recipe(tmp_path, steps=3, seed=1), out, resume=True)


def test_heads_must_share_the_width(tmp_path: Path) -> None:
    """A width that the heads cannot share is refused before any work."""
    with pytest.raises(TrainingError, match=r"twice --heads.*30 and 4"):
        run(recipe(tmp_path, shape=Shape(hidden=30, heads=4)), tmp_path / "model")


def test_weights_are_the_mean_of_the_last_steps(tmp_path: Path) -> None:
    """With an average of 1 over two steps, the result lies midway between the weights behind each of them."""
    plan = recipe(tmp_path, steps=2, average=1.0, warmup_steps=0)
    run(plan, tmp_path / "one", steps=1)
    run(plan, tmp_path / "two")
    first, last = (checkpoint._part(checkpoint._load(tmp_path / name)[0], "model.") for name in ("one", "two"))
    mean = weights(tmp_path / "two")
    for name, array in mean.items():
        expected = ((first[name] + last[name]) / 2).astype(mx.bfloat16)
        assert mx.allclose(array.astype(mx.float32), expected.astype(mx.float32), rtol=1e-2)


def test_the_rate_rises_and_falls() -> None:
    """Linear to the peak, then half a cosine towards zero; without averaging no step counts for a mean."""
    plan = Recipe(train=(), valid=(), steps=100, peak_rate=1.0, warmup_steps=10, average=0.25)
    rates = [plan.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert [plan.rate(55), plan.rate(100)] == pytest.approx([0.5, 0.0])
    assert (plan.average_from, Recipe((), (), 100, average=0.0).average_from) == (76, 101)


def test_the_saved_model_has_the_names_of_its_architecture(tmp_path: Path) -> None:
    """No wrapper shows in the file: names and shapes are those that mlx-lm makes for the config."""
    run(recipe(tmp_path, steps=1), tmp_path / "model")
    model, _ = load(str(tmp_path / "model"))
    expected = {name: array.shape for name, array in tree_flatten(model.inner.parameters())}
    assert {name: array.shape for name, array in weights(tmp_path / "model").items()} == expected
    assert model.num_layers == TINY.layers


def test_a_draft_model_has_the_words_of_the_model_it_drafts_for(tmp_path: Path) -> None:
    """Trained beside a model, with its tokenizer and prompt and a size of its own; the words do not change by it."""
    served, draft = tmp_path / "served", tmp_path / "draft"
    many: dict[str, Any] = {"label_smoothing": 0.0, "tokens_per_batch": 768, "valid_every": 1000}
    run(recipe(tmp_path, steps=100, **many), served)
    small = Shape(hidden=16, layers=1, heads=1, mlp=32, vocabulary=999, max_positions=64)
    run(recipe(tmp_path, steps=60, draft_of=str(served), shape=small, **many), draft)
    assert read_card(draft) == read_card(served)
    assert (draft / "tokenizer.json").read_bytes() == (served / "tokenizer.json").read_bytes()
    assert "--draft-of served" in (draft / "README.md").read_text()
    engine = SpeculativeDecodingEngine(SpeculativeConfig(draft_model_path=str(draft), target_model_path=str(served)))
    answers = [engine.generate(f"Translate to French: {source}") for source, _ in ROWS[::7]]
    assert [str(answer) for answer in answers] == [target for _, target in ROWS[::7]]
    assert engine.stats()["speculative_stats"]["acceptance_rate"] > 0.3


def test_a_draft_model_needs_to_know_how_many_tokens_to_share(tmp_path: Path) -> None:
    """A config that does not tell is refused by its name, before anything is trained."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"odd/config\.json has no vocab_size"):
        run(recipe(tmp_path, draft_of=str(tmp_path / "odd")), tmp_path / "draft")
