"""Parallel text in files, streamed: TSV, a JSON list, or one JSON object a line; gzipped or not.

Rows that cannot be used are counted by the reason and left out; only a file that cannot be opened ends a run.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from worker.core.languages import language_code
from worker.training.errors import DataError

Row = tuple[str, str]
_CHUNK_CHARS = 1 << 16


class DataFile(msgspec.Struct, frozen=True):
    """A file of parallel text, the language it translates into, and how often an epoch reads each of its rows."""

    path: str
    language: str
    weight: float = 1.0


class Keys(msgspec.Struct, frozen=True):
    """The names of source and target in JSON objects."""

    source: str = "source_key"
    target: str = "target_key"


def parse_data_file(text: str, language: str | None) -> DataFile:
    """`FILE[@language][:weight]`. Raises DataError where it names no language, and for a weight that is none.

    >>> parse_data_file("talks.tsv.gz@fr:0.5", None)
    DataFile(path='talks.tsv.gz', language='fr', weight=0.5)
    """
    rest, weight = text, 1.0
    head, colon, tail = text.rpartition(":")
    if colon and _is_number(tail):
        rest, weight = head, float(tail)
    if not 0 < weight <= 1000:
        raise DataError(f"the weight of {rest} is how often an epoch reads each row, above 0, got {weight:g}")
    path, at, tag = rest.rpartition("@")
    if at and tag.isalpha():
        return DataFile(path, language_code(tag), weight)
    if language is None:
        raise DataError(f"{rest} names no target language; write {rest}@fr, or give one for all files with --to fr")
    return DataFile(rest, language, weight)


def read_rows(path: str, keys: Keys, bad: Counter[str]) -> Iterator[Row]:
    """The (source, target) texts of a file, as they stand in it; `bad` counts what is no such row, by reason.

    Raises OSError where the file cannot be opened.
    """
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        try:
            yield from _rows(file, path, keys, bad)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            bad["damaged gzip, the rest is lost"] += 1


def _rows(file: IO[str], path: str, keys: Keys, bad: Counter[str]) -> Iterator[Row]:
    suffix = Path(path.removesuffix(".gz")).suffix
    if suffix not in (".json", ".jsonl"):
        yield from _tsv(file, bad)
        return
    first = file.read(1)
    while first.isspace():
        first = file.read(1)
    values = _list_values(file, bad) if first == "[" else _line_values(first, file, bad)
    for value in values:
        row = (value.get(keys.source), value.get(keys.target)) if isinstance(value, dict) else (None, None)
        if isinstance(row[0], str) and isinstance(row[1], str):
            yield row[0], row[1]
        else:
            bad[f"no text under {keys.source} and {keys.target}"] += 1


def _tsv(file: IO[str], bad: Counter[str]) -> Iterator[Row]:
    for line in file:
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) < 2:
            bad["fewer than two columns"] += 1
        else:
            yield columns[0], columns[1]


def _line_values(first: str, file: IO[str], bad: Counter[str]) -> Iterator[object]:
    for line in file:
        text, first = first + line, ""
        if not text.strip():
            continue
        try:
            yield json.loads(text)
        except ValueError:
            bad["no JSON"] += 1


def _list_values(file: IO[str], bad: Counter[str]) -> Iterator[object]:
    # One value after another, so that a list of any length needs no more memory than its longest value.
    decoder, text = json.JSONDecoder(), ""
    while chunk := file.read(_CHUNK_CHARS):
        text += chunk
        start = 0
        while True:
            begin = start + len(text[start:]) - len(text[start:].lstrip(", \t\r\n"))
            if text.startswith("]", begin):
                return
            try:
                value, start = decoder.raw_decode(text, begin)
            except ValueError:  # not all of it is here yet
                break
            yield value
        text = text[start:]
    bad["no JSON"] += 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
