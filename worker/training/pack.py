"""A pack: pre-tokenised parallel text in one memory-mapped file, all that a run needs beside its directory's tokenizer.

The file is a safetensors file. Tokens take two bytes, whose highest bit marks the first token of a segment or a target
word; rows follow each other, source before target. It needs neither mlx nor PyTorch.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from worker.training.checkpoint import header
from worker.training.data import Report
from worker.training.errors import PackError
from worker.training.pairs import Corpus, Ints, Pair
from worker.training.recipe import Recipe
from worker.training.storage import write_whole

FILE, VERSION = "pack.safetensors", 1
FIRST: Final = 0x8000  # marks the first token of a segment or word
_TRAIN, _VALID = "train.", "valid."
_PARTS = {
    "tokens": np.uint16,
    "num_source": np.uint16,
    "num_target": np.uint16,
    "group": np.uint8,
    "weights": np.float32,
}
Arrays = dict[str, NDArray[Any]]


class Facts(msgspec.Struct, frozen=True):
    """What a pack tells of itself."""

    version: int
    recipe: Recipe  # data, start, shape, and the defaults of the rest
    reports: tuple[Report, ...]
    num_given: int  # tokens of the target's prompt that are not learned
    max_segments: int
    checksums: dict[str, str]  # SHA-256 of each array


class PackedCorpus:
    """The pairs of one part of a pack; the file stays on the disk until a pair is asked for."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], num_given: int, max_segments: int) -> None:
        self.tokens, self.num_given = arrays["tokens"], num_given
        self.num_source: Ints = arrays["num_source"].astype(np.int32)
        self._lengths: Ints = self.num_source + arrays["num_target"]
        self.starts = np.concatenate(([0], np.cumsum(self._lengths, dtype=np.int64)))
        self.weights: NDArray[np.float32] = arrays["weights"][arrays["group"]]
        self.max_segments = max_segments

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Pair:
        row = self.tokens[self.starts[index] : self.starts[index + 1]]
        tokens, is_first = (row & (FIRST - 1)).astype(np.int32), row >= FIRST
        num_source = int(self.num_source[index])
        firsts = np.flatnonzero(is_first[:num_source])
        words = np.cumsum(is_first[num_source + 1 :]) - 1
        return Pair(
            source=tokens[:num_source],
            bounds=np.append(firsts[1:], num_source).astype(np.int32),
            target=tokens[num_source:],
            predicts=np.maximum(words, 0).astype(np.int32),
            num_given=self.num_given,
        )

    def lengths(self) -> Ints:
        """Tokens to feed for each pair, (len,)."""
        lengths: Ints = self._lengths - 1
        return lengths


def packed(corpus: Corpus) -> PackedCorpus:
    """Return the corpus in the form of a pack, in memory. Raises PackError for tokens or weights that have no room."""
    return PackedCorpus(_arrays(corpus), corpus[0].num_given if len(corpus) else 0, corpus.max_segments)


def write_pack(
    directory: Path, train: Corpus, valid: Corpus, *, recipe: Recipe, reports: Sequence[Report], max_bytes: int
) -> Path:
    """Write both parts of the data to the directory's pack file. Raises PackError, and leaves no file then."""
    arrays = {_TRAIN + name: array for name, array in _arrays(train).items()}
    arrays |= {_VALID + name: array for name, array in _arrays(valid).items()}
    given = {pair.num_given for pair in (train[0], valid[0])}
    size = sum(array.nbytes for array in arrays.values())
    if size > max_bytes:
        raise PackError(
            f"the pack would have {size / 2**20:.1f} MiB, --pack-mib allows {max_bytes / 2**20:g}; give large files a "
            "weight below 1 (FILE@LANG:0.1), so that only the rows that --pack-epochs read are packed"
        )
    checksums = {name: _checksum(array) for name, array in arrays.items()}
    facts = Facts(VERSION, recipe, tuple(reports), max(given), train.max_segments, checksums)
    path = directory / FILE
    metadata = {"version": str(VERSION), "facts": msgspec.json.encode(facts).decode()}
    try:
        write_whole(path, lambda new: save_file(arrays, new, metadata))
    except (OSError, SafetensorError) as error:
        raise PackError(f"{path} could not be written ({error}); free some space and pack again") from error
    return path


def _arrays(corpus: Corpus) -> Arrays:
    weights, group = np.unique(np.asarray(corpus.weights, np.float32), return_inverse=True)
    if len(weights) > 256:
        raise PackError(f"a pack holds files of at most 256 different weights, got {len(weights)}; round them")
    rows, num_source, num_target = [], [], []
    for i in range(len(corpus)):
        pair = corpus[i]
        rows.append(_row(pair))
        num_source.append(len(pair.source))
        num_target.append(len(pair.target))
    return {
        "tokens": np.concatenate(rows),
        "num_source": np.array(num_source, np.uint16),
        "num_target": np.array(num_target, np.uint16),
        "group": group.astype(np.uint8),
        "weights": weights,
    }


def _row(pair: Pair) -> NDArray[np.uint16]:
    is_source_first = np.zeros(len(pair.source), bool)
    is_source_first[np.append(0, pair.bounds[:-1])] = True
    is_word_first = np.diff(pair.predicts, prepend=-1) > 0
    is_word_first[: pair.num_given] = False
    if pair.num_given:
        is_word_first[pair.num_given] = True
    tokens = np.concatenate((pair.source, pair.target))
    if tokens.max() >= FIRST:
        raise PackError(f"a pack holds token ids below {FIRST:,}, got {tokens.max():,}; train with a smaller --vocab")
    row: NDArray[np.uint16] = tokens.astype(np.uint16)
    row[np.concatenate((is_source_first, [False], is_word_first))] |= FIRST
    return row


def read_pack(directory: Path) -> tuple[Facts, PackedCorpus, PackedCorpus]:
    """The facts, training pairs and validation pairs of the directory's pack.

    Raises PackError for a file that is missing, cut short, damaged or of another version.
    """
    path = directory / FILE
    found, start = _whole_header(path)
    metadata = found.pop("__metadata__", {})
    if metadata.get("version") != str(VERSION):
        raise PackError(
            f"{path} is a pack of version {metadata.get('version', 'none')}, this program reads {VERSION}; make it "
            "anew with `decalage train --pack`, or train with the program that made it"
        )
    facts = msgspec.json.decode(metadata["facts"], type=Facts)
    arrays = {name: _mapped(path, start, entry, name) for name, entry in found.items()}
    for name, array in arrays.items():
        if facts.checksums.get(name) != _checksum(array):
            raise PackError(f"{path} is damaged: {name} has another checksum than when it was written; copy it again")
    train, valid = (
        PackedCorpus({name: arrays[part + name] for name in _PARTS}, facts.num_given, facts.max_segments)
        for part in (_TRAIN, _VALID)
    )
    return facts, train, valid


def _whole_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        found, start = header(path)
        stop = start + max(entry["data_offsets"][1] for name, entry in found.items() if name != "__metadata__")
    except FileNotFoundError:
        raise PackError(f"{path} is not there; make it with `decalage train --pack {path.parent}`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(
            f"{path} has no readable header ({error}), so it is cut short or no pack; copy it again"
        ) from error
    if path.stat().st_size != stop:
        raise PackError(
            f"{path} has {path.stat().st_size:,} bytes, expected {stop:,}: it is cut short or grown; copy it again"
        )
    return found, start


def _mapped(path: Path, start: int, entry: dict[str, Any], name: str) -> NDArray[Any]:
    kind = _PARTS[name.partition(".")[2]]
    return np.memmap(path, kind, "r", start + entry["data_offsets"][0], tuple(entry["shape"]))


def _checksum(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
