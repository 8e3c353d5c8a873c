"""What commands that translate a test set share: its languages, the session of its sentences, the progress bar."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.commands.faults import CommandError

if TYPE_CHECKING:
    from protocol import Session
    from worker.commands.translation import Model


def languages_of(path: Path, to: str | None) -> tuple[str, str]:
    """Return the source and the target language of a file such as `news.en-fr.tsv`; `to` overrides the target.

    Raises CommandError where neither tells the target.
    """
    from worker.core.languages import direction

    named = direction(path.name)
    target = to or (named and named[1])
    if target is None:
        raise CommandError(f"the name {path.name!r} does not tell the languages; --to fr gives the target's")
    return (named[0] if named else "en"), target


def session_into(model: "Model", languages: tuple[str, str], max_new_words: int) -> "Session":
    """Return the session of sentences in these languages. Raises UnsupportedPrompt for languages the model lacks."""
    from protocol import Limits, Session
    from worker.core.rows import Refused
    from worker.library.vocabulary import unsupported

    source, target = languages
    session = Session(source_language=source, target_language=target, limits=Limits(max_new_words=max_new_words))
    try:
        model.vocabulary.prompt(session)
    except Refused as refused:
        raise unsupported(refused) from refused
    return session


def progress_bar() -> Any:
    """Return rich's Progress on standard error, which draws nothing unless that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
