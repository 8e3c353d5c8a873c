"""A whole training run: data, start, loop, model directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from worker.training import gradients
from worker.training.checkpoint import FILE, Progress, read_recipe
from worker.training.data import Encoder, Report, load_corpus
from worker.training.errors import CheckpointError
from worker.training.events import Event, Loaded, Note, Saved
from worker.training.export import export
from worker.training.history import History, draw_curve
from worker.training.loop import Trainer
from worker.training.memory import keep_memory
from worker.training.recipe import Recipe, differences
from worker.training.start import Start, open_start, prepare


def train(
    recipe: Recipe, directory: Path, report: Callable[[Event], None], stop: Callable[[], bool], *, resume: bool = False
) -> Progress:
    """How far the run has come, once `directory` holds the model: all steps, or until `stop` says true.

    With `resume`, the run goes on from the directory's checkpoint. Raises TrainingError and EngineError.
    """
    gradients.check(recipe)
    keep_memory()
    if resume:
        _check_same(recipe, directory)
    else:
        prepare(recipe, directory)
    start = open_start(recipe, directory)
    encoder = Encoder(start.vocabulary, recipe.split)
    corpus, reports = load_corpus(recipe.train, encoder, keys=recipe.keys, cleaning=recipe.cleaning)
    valid, valid_reports = load_corpus(
        recipe.valid, encoder, keys=recipe.keys, cleaning=recipe.cleaning, max_pairs=recipe.valid_pairs
    )
    history: list[History] = []

    def tell(event: Event) -> None:
        history[0].add(event)
        report(event)

    trainer = Trainer(recipe, start.model, corpus, valid, directory=directory, report=tell)
    if resume:
        trainer.resume()
    history.append(History(directory, trainer.progress.step))
    _tell_data(tell, [*reports, *valid_reports])
    trainer.run(stop)
    weights = trainer.finish()
    start = _with_longest(start, recipe, corpus.max_segments)
    path = export(directory, weights, start.card, recipe=recipe, progress=trainer.progress, reports=reports)
    tell(Saved(trainer.progress.step, str(path)))
    _draw(directory, tell)
    return trainer.progress


def _check_same(recipe: Recipe, directory: Path) -> None:
    changed = differences(read_recipe(directory), recipe)
    if changed:
        raise CheckpointError(
            f"{directory / FILE} is of a run with another recipe: {', '.join(changed)} differ; give only --resume and "
            "--out to go on with that run, or another --out to begin a new one"
        )


def _tell_data(tell: Callable[[Event], None], reports: Sequence[Report]) -> None:
    for report in reports:
        file = report.file
        tell(Loaded(file.path, file.language, file.weight, report.used, report.left_out))


def _with_longest(start: Start, recipe: Recipe, max_segments: int) -> Start:
    # Longer sources than these were never seen in training; token mode does not count words.
    if recipe.split != "word":
        return start
    longest = max(max_segments, start.card.max_segment_words or 0)
    return start._replace(card=replace(start.card, max_segment_words=longest))


def _draw(directory: Path, tell: Callable[[Event], None]) -> None:
    try:
        draw_curve(directory)
    except ModuleNotFoundError as error:  # hours of training are not lost for a picture
        tell(Note(f"no loss curve was drawn: {error.name} is missing; pip install 'decalage[train]'"))
