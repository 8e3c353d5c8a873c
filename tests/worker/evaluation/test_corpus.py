"""Reading test sets."""

import gzip
from pathlib import Path

import pytest

from worker.evaluation.corpus import Sentence, read_corpus
from worker.evaluation.errors import UnusableCorpus

TEXT = "\ufeffGood morning.\tBonjour.\r\n\nThank you.\t Merci. \nYes.\tOui.\nNo.\tNon.\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four sentences on lines 1, 3, 4 and 5."""
    found = tmp_path / "talk.en-fr.tsv"
    found.write_text(TEXT, encoding="utf-8", newline="")
    return found


def test_plain_and_gzipped_are_the_same(path: Path) -> None:
    """The content tells which it is, not the name; marks of the byte order, blank lines and outer spaces go."""
    packed = path.with_name("packed.tsv")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_corpus(packed) == read_corpus(path)
    assert read_corpus(path)[:2] == [Sentence(1, "Good morning.", "Bonjour."), Sentence(3, "Thank you.", "Merci.")]


def test_a_limit_takes_the_first_lines(path: Path) -> None:
    """Without a seed; more than there are is all, and what stands behind them is not looked at."""
    assert read_corpus(path, limit=2) == read_corpus(path)[:2]
    assert read_corpus(path, limit=9) == read_corpus(path)
    path.write_text(TEXT + "one column\n", encoding="utf-8")
    assert len(read_corpus(path, limit=4)) == 4


def test_a_seed_draws_lines(path: Path) -> None:
    """The same seed draws the same lines, in the file's order; some seed draws others than the first."""
    drawn = [read_corpus(path, limit=2, seed=seed) for seed in range(8)]
    assert drawn == [read_corpus(path, limit=2, seed=seed) for seed in range(8)]
    assert all(left.line < right.line for left, right in drawn)
    assert any(sentences != read_corpus(path, limit=2) for sentences in drawn)
    assert read_corpus(path, limit=4, seed=1) == read_corpus(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\nonly one column\n", "line 2: expected two columns, .* got 1"),
        (b"a\tb\tc\n", "line 1: expected two columns, .* got 3"),
        (b"a\tb\n\tb\n", "line 2: the source is empty"),
        (b"a\t \n", "line 1: the reference is empty"),
        (b"a\tb\n\xff\tb\n", "line 2: expected UTF-8"),
        (b"\n \n", "holds no sentences"),
        (gzip.compress(b"a\tb\n" * 99, mtime=0)[:-12], "ends in the middle"),
    ],
)
def test_what_is_no_test_set_is_refused(path: Path, content: bytes, message: str) -> None:
    """The error names the file and the line."""
    path.write_bytes(content)
    with pytest.raises(UnusableCorpus, match=f"talk.en-fr.tsv.*{message}"):
        read_corpus(path)


def test_a_missing_file_is_an_os_error(path: Path) -> None:
    """With the path in it."""
    with pytest.raises(FileNotFoundError, match="missing"):
        read_corpus(path.with_name("missing.tsv"))
