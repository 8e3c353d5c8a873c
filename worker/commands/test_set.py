"""The languages of parallel text, and the session that its sentences get, for `evaluate` and `calibrate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands import arguments
from worker.commands.faults import CommandError

if TYPE_CHECKING:
    from protocol import Session
    from worker.commands.translation import Model


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add `--to`, None unless given."""
    parser.add_argument(
        "--to",
        type=arguments.language,
        metavar="LANG",
        help="target language (default: from a file name such as x.en-fr.tsv)",
    )


def languages(to: str | None, path: Path) -> tuple[str, str]:
    """Return source and target language: `to`, else what the file's name tells. Raises CommandError."""
    from worker.evaluation.corpus import direction

    named = direction(path)
    target = to or (named and named[1])
    if target is None:
        raise CommandError(f"the name {path.name!r} does not tell the languages; --to fr gives the target's")
    return (named[0] if named else "en"), target


def session(model: "Model", languages: tuple[str, str], max_new_words: int | None = None) -> "Session":
    """Return the options for sentences of these languages. Raises UnsupportedPrompt where the model lacks them."""
    from protocol import Limits, Session
    from worker.core.rows import Refused
    from worker.library.vocabulary import unsupported

    source, target = languages
    options = Session(source_language=source, target_language=target, limits=Limits(max_new_words=max_new_words))
    try:
        model.vocabulary.prompt(options)
    except Refused as refused:
        raise unsupported(refused) from refused
    return options
