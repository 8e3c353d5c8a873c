"""Results on disk."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import NotComparable
from worker.evaluation.records import check_same, read_records, write_records
from worker.evaluation.run import Translated

FOUND = Translated(
    line=1,
    source="Where is\u2028it?",
    reference="Où est-il ?",
    prediction="Où est-il ?",
    source_words=3,
    reference_words=3,
    delays=(2, 3, 3),
    compute_ms=(1.5, 2.25, 3.0),
    finish_reason="stop",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """One object a line, whatever the texts hold, in a folder that need not exist; nothing else is left there."""
    path = tmp_path / "new" / "wait-3.jsonl"
    sentences = [FOUND, replace(FOUND, line=2, delays=(), compute_ms=(), prediction="")]
    write_records(path, sentences)
    assert path.read_bytes().count(b"\n") == 2
    assert read_records(path) == sentences
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood there stays whole."""
    path = tmp_path / "wait-3.jsonl"
    write_records(path, [FOUND])

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_records(path, [FOUND, FOUND])
    monkeypatch.undo()
    assert read_records(path) == [FOUND]
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_is_refused(tmp_path: Path) -> None:
    """The error names the line and what is missing."""
    path = tmp_path / "other.jsonl"
    write_records(path, [FOUND])
    path.write_bytes(path.read_bytes() + b'{"line": 2}\n')
    with pytest.raises(NotComparable, match=r"line 2: .*`source`"):
        read_records(path)


def test_only_the_same_sentences_compare() -> None:
    """Translations may differ; numbers, sources and references may not."""
    check_same([FOUND], [Sentence(7, FOUND.source, FOUND.reference)])
    with pytest.raises(NotComparable, match="got 1 and 2"):
        check_same([FOUND], [FOUND, FOUND])
    for other in (replace(FOUND, source="No."), replace(FOUND, reference="Non.")):
        with pytest.raises(NotComparable, match="line 1 of one"):
            check_same([FOUND], [other])
