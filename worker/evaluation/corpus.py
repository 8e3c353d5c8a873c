"""Test sets: a source, a tab and a reference on every line, gzipped or not."""

import gzip
import random
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from worker.evaluation.errors import UnusableCorpus

_GZIP = b"\x1f\x8b"


class Sentence(msgspec.Struct, frozen=True):
    """One line of a test set; `line` counts from 1 in its file."""

    line: int
    source: str
    reference: str


def read_corpus(path: Path, *, limit: int | None = None, seed: int | None = None) -> list[Sentence]:
    """Read the sentences of a test set, in the file's order.

    `limit` takes the first lines, or with a `seed` as many lines at random; the same seed draws the same lines. Blank
    lines are skipped. Raises UnusableCorpus that names the line, OSError.
    """
    lines = _sentences(path)
    sentences = list(lines if limit is None or seed is not None else islice(lines, limit))
    if not sentences:
        raise UnusableCorpus(f"{path} holds no sentences; expected lines of a source, a tab and a reference")
    if limit is None or seed is None or limit >= len(sentences):
        return sentences
    drawn = random.Random(seed).sample(range(len(sentences)), limit)
    return [sentences[i] for i in sorted(drawn)]


def _sentences(path: Path) -> Iterator[Sentence]:
    number = 0
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode().lstrip("\ufeff").rstrip("\r\n")  # files that were put together have more marks
                if text.strip():
                    yield _sentence(text, f"{path}, line {number}", number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnusableCorpus(f"{path} ends in the middle or is damaged: {error}; fetch it again") from error
    except UnicodeDecodeError as error:
        raise UnusableCorpus(
            f"{path}, line {number}: expected UTF-8, got bytes that are none ({error.reason}); convert the file"
        ) from error


def _sentence(text: str, where: str, number: int) -> Sentence:
    columns = [column.strip() for column in text.split("\t")]
    if len(columns) != 2:
        raise UnusableCorpus(
            f"{where}: expected two columns, a source and a reference with a tab between them, got {len(columns)}"
        )
    if not all(columns):
        empty = "source" if not columns[0] else "reference"
        raise UnusableCorpus(f"{where}: the {empty} is empty; a score needs both, so take the line out or complete it")
    return Sentence(number, *columns)
