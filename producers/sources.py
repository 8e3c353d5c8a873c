"""From text to timed words: where lines come from, which words go into one event, and when it is due.

A run of blank lines after text becomes one PARAGRAPH: the sender ends a segment there.
"""

import asyncio
import codecs
import os
import re
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from producers.errors import UnreadableSource
from protocol.limits import MAX_TEXT_CHARS

_T = TypeVar("_T")

PARAGRAPH: Final = ""
"""The mark for blank lines."""

_CHUNK_BYTES: Final = 65_536
_CHARACTERS: Final = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff"
# A word ends between two Kana or Han characters. Other scripts without spaces are left to the worker: it knows which
# marks belong to the character before them.
_BETWEEN_CHARACTERS: Final = re.compile(f"(?<=[{_CHARACTERS}])(?=[{_CHARACTERS}])")


def words(lines: str | Iterable[str]) -> Iterator[str]:
    """Yield the words of the lines: runs between white space, and single Chinese or Japanese characters.

    >>> list(words(["Guten  Morgen,", "", "世界。"]))
    ['Guten', 'Morgen,', '世', '界。']
    """
    for line in [lines] if isinstance(lines, str) else lines:
        for run in line.split():
            yield from _BETWEEN_CHARACTERS.split(run)


def pieces(line: str, max_chars: int = MAX_TEXT_CHARS) -> Iterator[str]:
    """Split the line into as few texts of whole words as fit into events; a longer single word stays whole.

    >>> list(pieces(" one  two three ", max_chars=8))
    ['one two', 'three']
    """
    rest = line.strip()
    while len(rest) > max_chars:
        # The last white space that leaves a short enough head, else the first one.
        cut = next((at for at in range(max_chars, 0, -1) if rest[at].isspace()), 0)
        cut = cut or next((at for at, char in enumerate(rest) if char.isspace()), len(rest))
        head, rest = rest[:cut], rest[cut:].strip()
        yield " ".join(head.split())
    if rest:
        yield " ".join(rest.split())


class Pace:
    """The clock of a speaker: one word every 1/`words_per_second` seconds; a late word is not caught up."""

    def __init__(self, words_per_second: float) -> None:
        """Start with the first word due at once. Raises ValueError unless 0 < words_per_second < infinity."""
        if not 0 < words_per_second < float("inf"):
            raise ValueError(f"expected a pace above 0 words per second, got {words_per_second}")
        self._interval_s = 1 / words_per_second
        self._due_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next word is due, and count it as spoken then."""
        self._due_s = now_s if self._due_s is None else max(now_s, self._due_s + self._interval_s)
        return self._due_s - now_s


async def paced(text_or_lines: str | AsyncIterable[str], words_per_second: float = 0.0) -> AsyncIterator[str]:
    """Yield the texts to append, each when it is due: word by word at that pace, or for 0 line by line at once."""
    pace = Pace(words_per_second) if words_per_second else None
    clock = asyncio.get_running_loop().time
    has_text = False
    async for line in text_lines(text_or_lines) if isinstance(text_or_lines, str) else text_or_lines:
        if has_text and not line.strip():
            has_text = False
            yield PARAGRAPH
        for text in words(line) if pace else pieces(line):
            if pace:
                await asyncio.sleep(pace.wait_s(clock()))
            has_text = True
            yield text


async def text_lines(text: str) -> AsyncIterator[str]:
    """Yield the lines of the text."""
    for line in text.splitlines():
        yield line


async def file_lines(path: str | Path) -> AsyncIterator[str]:
    """Yield the lines of a UTF-8 file or named pipe as they become readable. Raises UnreadableSource."""
    try:
        # Opening a named pipe blocks until its other end is open.
        descriptor = await _in_thread(lambda: os.open(path, os.O_RDONLY))
    except OSError as failure:
        raise UnreadableSource(f"expected a text file, got {path}: {failure.strerror or failure}") from failure
    try:
        async for line in descriptor_lines(descriptor, str(path)):
            yield line
    finally:
        os.close(descriptor)


def stdin_lines() -> AsyncIterator[str]:
    """Yield the lines of the standard input, each as soon as it is complete."""
    return descriptor_lines(sys.stdin.fileno(), "the standard input")


async def descriptor_lines(descriptor: int, name: str) -> AsyncIterator[str]:
    """Yield the lines that can be read from the descriptor, and leave it open. Raises UnreadableSource."""
    # Around Python's own buffers: those wait until they are full, and a thread left behind in them when the
    # program ends early, would abort it.
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        while chunk := await _in_thread(lambda: os.read(descriptor, _CHUNK_BYTES)):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                yield line
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as failure:
        raise UnreadableSource(f"expected UTF-8 text from {name}, got {failure}; convert it first") from failure
    except OSError as failure:
        raise UnreadableSource(f"expected text from {name}, got {failure.strerror or failure}") from failure
    if rest:
        yield rest


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Return the result of a call that may block for ever, in a thread that does not hold up the program's exit."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def set_outcome(result: _T | None, failure: OSError | None) -> None:
        if outcome.done():
            return
        if failure is not None:
            outcome.set_exception(failure)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # without a failure there is a result

    def body() -> None:
        result, failure = None, None
        try:
            result = call()
        except OSError as raised:
            failure = raised
        # The loop may already be closed when the call returns.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(set_outcome, result, failure)

    threading.Thread(target=body, daemon=True, name="decalage-source").start()
    return await outcome
