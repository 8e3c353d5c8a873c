"""Sources: nothing of a text is lost or torn, lines come when they are complete, words when they are due."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.errors import UnreadableSource
from producers.sources import PARAGRAPH, Pace, descriptor_lines, file_lines, paced, pieces, text_lines, words
from worker.core.words import split_words

TEXTS = st.text(st.sampled_from("ab .\t、。「」日本語カーな한é\u3000\n"), max_size=60)


async def collect(items: AsyncIterator[str]) -> list[str]:
    """All items to the end."""
    return [item async for item in items]


@given(TEXTS)
def test_words_end_only_where_the_worker_ends_them(text: str) -> None:
    """Sent word by word or line by line, a text has the same words for the worker as in one piece."""
    expected = [word for line in text.splitlines() for word in split_words(line)]
    assert [part for word in words(text.splitlines()) for part in split_words(word)] == expected
    assert [part for line in text.splitlines() for piece in pieces(line) for part in split_words(piece)] == expected


@given(st.text("ab  \t", max_size=80), st.integers(1, 12))
def test_pieces_fit_and_keep_every_word_whole(line: str, max_chars: int) -> None:
    """A piece is longer than allowed only if it is a single word."""
    parts = list(pieces(line, max_chars))
    assert [word for part in parts for word in part.split()] == line.split()
    assert all(len(part) <= max_chars or len(part.split()) == 1 for part in parts)
    assert all(parts)


@given(st.floats(0.1, 100), st.lists(st.floats(0, 3), max_size=20))
def test_words_are_never_closer_than_the_pace(words_per_second: float, pauses: list[float]) -> None:
    """However late the speaker asks, two words are at least one interval apart, and the first is due at once."""
    pace, now, last = Pace(words_per_second), 0.0, None
    for pause in pauses:
        now += pause
        now += pace.wait_s(now)
        assert last is None or now - last >= 1 / words_per_second - 1e-9
        last = now
    assert Pace(words_per_second).wait_s(5.0) == 0.0


@pytest.mark.parametrize("words_per_second", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_pace_is_refused(words_per_second: float) -> None:
    """Only a positive, finite number is a pace."""
    with pytest.raises(ValueError, match="pace above 0"):
        Pace(words_per_second)


async def test_blank_lines_mark_paragraphs_once_and_only_after_text() -> None:
    """At once, each line is one text; several blank lines are one paragraph end, leading ones none."""
    text = "\n\nOne two.\nThree.\n \n\nFour.\n"
    assert await collect(paced(text)) == ["One two.", "Three.", PARAGRAPH, "Four."]
    assert await collect(paced(text, 1e6)) == ["One", "two.", "Three.", PARAGRAPH, "Four."]
    assert await collect(paced(text_lines(text))) == await collect(paced(text))


async def test_paced_words_come_one_interval_apart() -> None:
    """The loop's own clock sees the intervals."""
    clock = asyncio.get_running_loop().time
    times = [clock() async for _ in paced("a b c", 50)]
    assert times[2] - times[0] >= 2 / 50 - 1e-3


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40), st.integers(1, 7), st.booleans())
def test_lines_survive_any_chunks(text: str, num_bytes: int, has_mark: bool) -> None:
    """Whatever pieces the bytes come in, the lines are the text's, without its byte order mark."""
    data = text.lstrip("\ufeff").encode()
    data = b"\xef\xbb\xbf" + data if has_mark else data

    async def story() -> list[str]:
        reading, writing = os.pipe()
        try:
            lines = asyncio.ensure_future(collect(descriptor_lines(reading, "pipe")))
            for start in range(0, len(data), num_bytes):
                os.write(writing, data[start : start + num_bytes])
                await asyncio.sleep(0)
            os.close(writing)
            return await lines
        finally:
            os.close(reading)

    expected = text.lstrip("\ufeff").split("\n")
    assert asyncio.run(story()) == (expected if expected[-1] else expected[:-1])


async def test_a_line_is_there_before_its_source_has_ended() -> None:
    """A pipe that stays open delivers each line as soon as it is complete."""
    reading, writing = os.pipe()
    lines = descriptor_lines(reading, "pipe")
    os.write(writing, b"first\nsec")
    assert await anext(lines) == "first"
    os.write(writing, b"ond\n")
    assert await anext(lines) == "second"
    os.close(writing)
    assert await collect(lines) == []
    os.close(reading)


async def test_files_are_read_and_errors_name_them(tmp_path: Path) -> None:
    """A file's lines; what is missing, a folder or not UTF-8 is named with the reason."""
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("one\r\ntwo", encoding="utf-8", newline="")
    bad.write_bytes(b"caf\xe9 noir")
    assert [line.strip() for line in await collect(file_lines(good))] == ["one", "two"]
    for path, reason in ((bad, "UTF-8"), (tmp_path, "directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(UnreadableSource, match=reason) as failure:
            await collect(file_lines(path))
        assert str(path) in str(failure.value)
