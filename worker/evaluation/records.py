"""Results on disk: one file for each policy, one line of JSON for each sentence."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from worker.evaluation.corpus import Sentence
from worker.evaluation.errors import NotComparable
from worker.evaluation.run import Translated


def write_records(path: Path, sentences: Sequence[Translated]) -> None:
    """Write these sentences to the file, whole or not at all. Raises OSError."""
    write_whole(path, b"".join(msgspec.json.encode(sentence) + b"\n" for sentence in sentences))


def write_whole(path: Path, content: bytes) -> None:
    """Write this content to the file, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def read_records(path: Path) -> list[Translated]:
    """Read the sentences of a results file. Raises NotComparable that names the line, OSError."""
    decoder = msgspec.json.Decoder(Translated)
    sentences = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            sentences.append(decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise NotComparable(
                f"{path}, line {number}: expected a sentence as `decalage evaluate --output` writes them, got {error}"
            ) from error
    return sentences


def check_same(baseline: Sequence[Translated], sentences: Sequence[Sentence | Translated]) -> None:
    """Raise NotComparable unless both hold the same sources and references, in the same order."""
    if len(baseline) != len(sentences):
        raise NotComparable(
            f"expected results of the same sentences, got {len(baseline)} and {len(sentences)}; evaluate both with the "
            "same test set, --limit and --seed"
        )
    for left, right in zip(baseline, sentences, strict=True):
        if (left.source, left.reference) != (right.source, right.reference):
            raise NotComparable(
                f"expected results of the same sentences, but line {left.line} of one has the source {left.source!r}, "
                f"line {right.line} of the other {right.source!r}; or their references differ"
            )
