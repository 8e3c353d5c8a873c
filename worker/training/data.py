"""From texts to pairs of tokens: cleaned, cut into words and tokenised exactly as they will be served."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np

from protocol import Session
from worker.core.rows import Prompt
from worker.core.words import UNFINISHED, separator, split_words
from worker.engine.text.tokenizer import Vocabulary
from worker.training.errors import DataError
from worker.training.files import DataFile, Keys, read_rows
from worker.training.objective import Ints, Pair

Split = Literal["word", "token"]
WordPair = tuple[tuple[str, ...], tuple[str, ...]]


class Cleaning(msgspec.Struct, frozen=True):
    """Which rows are left out."""

    max_words: int = 60  # on either side
    max_ratio: float = 3.0  # words of the longer side to words of the shorter one
    free_words: int = 4  # more words that the longer side may always have: short rows vary a lot


class Report(msgspec.Struct, frozen=True):
    """What became of a file's rows: used, and left out by the reason."""

    file: DataFile
    used: int
    left_out: dict[str, int]


def clean_rows(file: DataFile, keys: Keys, cleaning: Cleaning, bad: Counter[str] | None = None) -> Iterator[WordPair]:
    """The words of a file's good rows, each row once; `bad` counts the others, by reason."""
    bad = Counter() if bad is None else bad
    known: set[int] = set()
    for texts in read_rows(file.path, keys, bad):
        source, target = (tuple(split_words(text)) for text in texts)
        reason = _fault(source, target, cleaning)
        if reason is None:
            key = hash((source, target))
            reason = "twice" if key in known else None
            known.add(key)
        if reason is None:
            yield source, target
        else:
            bad[reason] += 1


def _fault(source: Sequence[str], target: Sequence[str], cleaning: Cleaning) -> str | None:
    short, long_ = sorted((len(source), len(target)))
    if not short:
        return "empty side"
    if any(UNFINISHED in word for word in (*source, *target)):
        return "no UTF-8"
    if long_ > cleaning.max_words:
        return f"more than {cleaning.max_words} words"
    if long_ > cleaning.max_ratio * short + cleaning.free_words:
        return "lengths do not match"
    return "source is target" if source == target else None


class Corpus:
    """Pairs of tokens, four bytes a token; `weights[i]` is how often an epoch has pair i."""

    def __init__(self) -> None:
        self.weights = array("f")
        self._numbers = array("i")  # bounds, predicts, source and target of all pairs
        self._starts = array("q", [0])
        self._shapes = array("i")  # lengths of bounds, predicts and source, and num_given

    def __len__(self) -> int:
        return len(self.weights)

    def add(self, pair: Pair, weight: float = 1.0) -> None:
        """The corpus has one more pair."""
        for part in (pair.bounds, pair.predicts, pair.source, pair.target):
            self._numbers.frombytes(np.ascontiguousarray(part, np.int32).tobytes())
        self._starts.append(len(self._numbers))
        self._shapes.extend((len(pair.bounds), len(pair.predicts), len(pair.source), pair.num_given))
        self.weights.append(weight)

    def __getitem__(self, index: int) -> Pair:
        start, stop = self._starts[index], self._starts[index + 1]
        bounds, predicts, source, num_given = self._shapes[4 * index : 4 * index + 4]
        numbers: Ints = np.array(self._numbers[start:stop], np.int32)
        parts = np.split(numbers, np.cumsum([bounds, predicts, source]))
        return Pair(source=parts[2], bounds=parts[0], target=parts[3], predicts=parts[1], num_given=num_given)

    @property
    def max_segments(self) -> int:
        """Source segments of the longest pair, without prompt and end: its words."""
        return max(self._shapes[::4], default=2) - 2

    def lengths(self) -> Ints:
        """Tokens to feed for each pair."""
        shapes = np.array(self._shapes, np.int32).reshape(-1, 4)
        lengths: Ints = shapes[:, 2] + shapes[:, 1]
        return lengths


class Encoder:
    """Turns words into pairs with the vocabulary of the model that will be served."""

    def __init__(self, vocabulary: Vocabulary, split: Split = "word") -> None:
        self._vocabulary = vocabulary
        self._split = split
        # By the word and the space before it. Words repeat: most are tokenised once.
        self._known: dict[tuple[str, str | None], tuple[int, ...]] = {}
        self._prompts: dict[str, Prompt] = {}

    def prompt(self, language: str) -> Prompt:
        """The model's prompt for a target language. Raises core.rows.Refused for one that it does not know."""
        if language not in self._prompts:
            session = Session(source_language=self._vocabulary.card.source_language, target_language=language)
            self._prompts[language] = self._vocabulary.prompt(session)
        return self._prompts[language]

    def pair(self, words: WordPair, language: str) -> Pair | None:
        """The words in the model's prompt; None where it is longer than the model's positions reach."""
        prompt = self.prompt(language)
        segments = [prompt.source, *self._units(words[0]), prompt.end]
        units = [*self._units(words[1]), (int(self._vocabulary.tokenizer.eos_token_id),)]
        num_given = len(prompt.target) - 1
        predicts = [0] * num_given + [t for t, unit in enumerate(units) for _ in unit]
        pair = Pair(
            source=np.array([token for segment in segments for token in segment], np.int32),
            bounds=np.cumsum([len(segment) for segment in segments]).astype(np.int32),
            target=np.array([*prompt.target, *(token for unit in units for token in unit)], np.int32),
            predicts=np.array(predicts, np.int32),
            num_given=num_given,
        )
        is_long = len(pair.source) > prompt.max_source_tokens or len(pair.target) > prompt.max_target_tokens
        return None if is_long else pair

    def _units(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        units = [self._encode(word, previous) for word, previous in zip(words, ("", *words), strict=False)]
        return units if self._split == "word" else [(token,) for unit in units for token in unit]

    def _encode(self, word: str, previous: str) -> tuple[int, ...]:
        key = (word, separator(previous, word) if previous else None)
        if key not in self._known:
            self._known[key] = self._vocabulary.encode_word(word, previous)
        return self._known[key]


def load_corpus(
    files: Sequence[DataFile],
    encoder: Encoder,
    *,
    keys: Keys | None = None,
    cleaning: Cleaning | None = None,
    max_pairs: int | None = None,
) -> tuple[Corpus, list[Report]]:
    """The pairs of all files, at most `max_pairs` of each, and what was left out.

    Raises DataError for a file without any usable row, core.rows.Refused for a language that the model does not know.
    """
    corpus, reports = Corpus(), []
    for file in files:
        before = len(corpus)
        bad: Counter[str] = Counter()
        encoder.prompt(file.language)
        for words in clean_rows(file, keys or Keys(), cleaning or Cleaning(), bad):
            pair = encoder.pair(words, file.language)
            if pair is None:
                bad["longer than the model's positions"] += 1
                continue
            corpus.add(pair, file.weight)
            if max_pairs is not None and len(corpus) - before >= max_pairs:
                break
        reports.append(Report(file, len(corpus) - before, dict(bad)))
        if len(corpus) == before:
            raise DataError(
                f"{file.path} has no usable row ({_reasons(bad)}); expected source and target in two columns that are "
                f"parted by a tab, or JSON objects with the keys that --json-keys names"
            )
    return corpus, reports


def _reasons(bad: Counter[str]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in bad.most_common()) or "it is empty"
