"""A whole training run: data, start, loop, model directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from worker.training import backends
from worker.training.checkpoint import FILE, read_recipe
from worker.training.data import Report
from worker.training.errors import CheckpointError, LossError
from worker.training.events import Event, Loaded, Note, Saved
from worker.training.export import export
from worker.training.history import History, draw_curve
from worker.training.loop import Trainer
from worker.training.memory import keep_memory
from worker.training.progress import Progress
from worker.training.recipe import Recipe, differences
from worker.training.sources import Source, make_pack, open_source


def train(
    recipe: Recipe, directory: Path, report: Callable[[Event], None], stop: Callable[[], bool], *, resume: bool = False,
    plan_s: float | None = None,
) -> Progress:  # fmt: skip
    """Train until all steps are done or `stop` says true, leave the model in `directory`, and return how far it came.

    With `resume`, go on from the directory's checkpoint. With `plan_s`, the number of steps is planned to end after so
    many seconds. Raises TrainingError and EngineError.
    """
    backends.check(recipe)
    keep_memory()
    if resume:
        _check_same(recipe, directory)
    source = open_source(recipe, directory, resume=resume)
    history: list[History] = []

    def tell(event: Event) -> None:
        history[0].add(event)
        report(event)

    trainer = Trainer(recipe, source.backend, source.train, source.valid, directory=directory, report=tell)
    if resume:
        trainer.resume()
    history.append(History(directory, trainer.progress.step))
    _tell_data(tell, source.reports)
    try:
        trainer.run(stop, plan_s=plan_s)
    except LossError:
        _finish_last_good(trainer, source, directory, tell)
        raise
    _finish(trainer, source, directory, tell)
    return trainer.progress


def pack(recipe: Recipe, directory: Path, report: Callable[[Event], None], *, max_bytes: int) -> Path:
    """Make the pack of a recipe in `directory`, report what it holds, and return its file. Raises TrainingError."""
    path, reports = make_pack(recipe, directory, max_bytes=max_bytes)
    _tell_data(report, reports)
    report(Saved(0, str(path)))
    return path


def _finish(trainer: Trainer, source: Source, directory: Path, tell: Callable[[Event], None]) -> None:
    weights = trainer.finish()
    path = export(
        directory,
        weights,
        recipe=trainer.recipe,
        progress=trainer.progress,
        reports=source.reports[: len(source.reports) - len(trainer.recipe.valid)],
        max_segments=source.train.max_segments,
    )
    tell(Saved(trainer.progress.step, str(path)))
    _draw(directory, tell)


def _finish_last_good(trainer: Trainer, source: Source, directory: Path, tell: Callable[[Event], None]) -> None:
    # The model of the last checkpoint, where there is one: hours of training are not lost for one bad step.
    if (directory / FILE).exists():
        trainer.resume()
        _finish(trainer, source, directory, tell)
        tell(Note(f"{directory} holds the model of step {trainer.progress.step}; --from {directory} goes on from it"))


def _check_same(recipe: Recipe, directory: Path) -> None:
    changed = [name for name in differences(read_recipe(directory), recipe) if name != "pack"]
    if changed:
        raise CheckpointError(
            f"{directory / FILE} is of a run with another recipe: {', '.join(changed)} differ; give only --resume and "
            "--out to go on with that run, or another --out to begin a new one"
        )


def _tell_data(tell: Callable[[Event], None], reports: Sequence[Report]) -> None:
    for report in reports:
        file = report.file
        tell(Loaded(file.path, file.language, file.weight, report.used, report.left_out))


def _draw(directory: Path, tell: Callable[[Event], None]) -> None:
    try:
        draw_curve(directory)
    except ModuleNotFoundError as error:  # hours of training are not lost for a picture
        tell(Note(f"no loss curve was drawn: {error.name} is missing; pip install 'decalage[train]'"))
