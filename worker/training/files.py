"""Parallel text in files, streamed: TSV, a JSON list, or one JSON object a line; gzipped or not.

Rows that cannot be used are counted by the reason and left out; only a file that cannot be opened ends a run.
"""

import codecs
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from worker.core.languages import direction, language_code
from worker.training.errors import DataError

Row = tuple[str, str]
_CHUNK_CHARS: Final = 1 << 16
_MAX_VALUE_CHARS: Final = 1 << 24  # of one JSON value
_CUT_CHARS: Final = 16  # an error so near the end of what has been read may only mean that the rest is missing
_GZIP: Final = b"\x1f\x8b"
_MARK: Final = "\ufeff"
# As Excel and PowerShell write them. UTF-32 first: its mark begins with that of UTF-16.
_ENCODINGS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
    """`FILE[@language][:weight]`; without a tag, the language of a name such as `talks.en-fr.tsv`, else `language`.

    Raises DataError where nothing names a language, and for a weight that is none.

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
    named = direction(Path(rest).name)
    language = named[1] if named else language
    if language is None:
        raise DataError(f"{rest} names no target language; write {rest}@fr, or give one for all files with --to fr")
    return DataFile(rest, language, weight)


def read_rows(path: str, keys: Keys, bad: Counter[str]) -> Iterator[Row]:
    """Yield the (source, target) texts of a file, as they stand in it; `bad` counts what is no such row, by reason.

    The text is UTF-8, or what a byte order mark says; marks at the start of later lines, as in files that were put
    together, are left out. Raises OSError where the file cannot be opened.
    """
    try:
        with _opened(path) as file:
            yield from _rows(file, path, keys, bad)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        bad["damaged gzip, the rest is lost"] += 1


@contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    with open(path, "rb") as raw:
        is_gzip = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        start = stream.peek(4)
        encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), "utf-8")
        with io.TextIOWrapper(stream, encoding, errors="replace") as file:
            yield file


def _rows(file: IO[str], path: str, keys: Keys, bad: Counter[str]) -> Iterator[Row]:
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    if suffix not in (".json", ".jsonl"):
        yield from _tsv(file, bad)
        return
    first = file.read(1)
    while first.isspace() or first == _MARK:
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
        columns = line.lstrip(_MARK).rstrip("\r\n").split("\t")
        if len(columns) < 2:
            bad["fewer than two columns"] += 1
        else:
            yield columns[0], columns[1]


def _line_values(first: str, file: IO[str], bad: Counter[str]) -> Iterator[object]:
    for line in file:
        text, first = (first + line).lstrip(_MARK), ""
        if not text.strip():
            continue
        try:
            yield json.loads(text)
        except ValueError:
            bad["no JSON"] += 1


def _list_values(file: IO[str], bad: Counter[str]) -> Iterator[object]:
    # One value after another, so that a list of any length needs no more memory than its longest value.
    decoder, text = json.JSONDecoder(strict=False), ""
    while chunk := file.read(_CHUNK_CHARS):
        text += chunk
        start = 0
        while True:
            begin = start + len(text[start:]) - len(text[start:].lstrip(", \t\r\n" + _MARK))
            if text.startswith(("]", "["), begin):  # the end; and the start of another list behind it
                start = begin + 1
                continue
            try:
                value, start = decoder.raw_decode(text, begin)
                yield value
            except json.JSONDecodeError as error:
                if _may_be_cut(error, text):
                    start = begin
                    break
                bad["no JSON"] += 1
                start = max(text.find("{", error.pos), error.pos + 1)  # the next object
        text = text[start:]
        if len(text) > _MAX_VALUE_CHARS:
            break
    if text:
        bad["no JSON, the rest is lost"] += 1


def _may_be_cut(error: json.JSONDecodeError, text: str) -> bool:
    return error.msg.startswith("Unterminated string") or error.pos + _CUT_CHARS > len(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
