"""From texts to pairs of tokens: cleaned, cut into words and tokenised exactly as they will be served."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from protocol import Session
from worker.core.normalize import normalize
from worker.core.rows import Prompt
from worker.core.words import UNFINISHED, separator, source_words, split_words
from worker.training.augmentation import Augmentation, WordPair, augmented, template_rows
from worker.training.errors import DataError
from worker.training.files import DataFile, Keys, read_rows
from worker.training.pairs import MemoryCorpus, Pair

if TYPE_CHECKING:
    from worker.engine.text.tokenizer import Vocabulary

Split = Literal["word", "token"]


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


def clean_rows(
    file: DataFile,
    keys: Keys,
    cleaning: Cleaning,
    bad: Counter[str] | None = None,
    *,
    share: float = 1.0,
    seed: str = "",
) -> Iterator[WordPair]:
    """The words of a file's good rows, each row once; `bad` counts the others, by reason.

    Of the rows, only a random `share` is looked at.
    """
    random = Random(seed)
    bad = Counter() if bad is None else bad
    known: set[int] = set()
    for texts in read_rows(file.path, keys, bad):
        if share < 1 and random.random() >= share:
            continue
        source, target = tuple(source_words(texts[0])), tuple(split_words(normalize(texts[1])))
        # Before they are normalised, which drops what cannot be decoded.
        reason = "no UTF-8" if any(UNFINISHED in text for text in texts) else _fault(source, target, cleaning)
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
    if long_ > cleaning.max_words:
        return f"more than {cleaning.max_words} words"
    if long_ > cleaning.max_ratio * short + cleaning.free_words:
        return "lengths do not match"
    return "source is target" if source == target else None


class Encoder:
    """Turns words into pairs with the vocabulary of the model that will be served."""

    def __init__(self, vocabulary: "Vocabulary", split: Split = "word") -> None:
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

    def add(self, corpus: MemoryCorpus, rows: Iterable[WordPair], file: DataFile, bad: Counter[str]) -> int:
        """Append the rows to a corpus with the file's weight and return how many; `bad` counts those too long."""
        before = len(corpus)
        for words in rows:
            pair = self.pair(words, file.language)
            if pair is None:
                bad["longer than the model's positions"] += 1
            else:
                corpus.add(pair, file.weight)
        return len(corpus) - before

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
    augmentation: Augmentation | None = None,
    seed: int = 0,
    max_pairs: int | None = None,
    max_epochs: int | None = None,
) -> tuple[MemoryCorpus, list[Report]]:
    """The pairs of all files with what `augmentation` adds, at most `max_pairs` of each file, and what was left out.

    With `max_epochs`, a file that an epoch reads in part is thinned out to the rows that so many epochs need.
    Raises DataError for a file without any usable row, core.rows.Refused for a language that the model does not know.
    """
    keys, cleaning, augmentation = keys or Keys(), cleaning or Cleaning(), augmentation or Augmentation()
    corpus, reports = MemoryCorpus(), []
    for i, file in enumerate(files):
        random, bad = Random(f"{seed} {i}"), Counter[str]()
        share = 1.0 if max_epochs is None else min(1.0, file.weight * max_epochs)
        encoder.prompt(file.language)
        rows = clean_rows(file, keys, cleaning, bad, share=share, seed=f"{seed} {i}")
        added = augmented(rows, augmentation, random, cleaning.max_words)
        used = encoder.add(
            corpus, islice(added, max_pairs), DataFile(file.path, file.language, file.weight / share), bad
        )
        reports.append(Report(file, used, dict(bad)))
        if not used:
            raise DataError(
                f"{file.path} has no usable row ({_reasons(bad)}); expected source and target in two columns that are "
                f"parted by a tab, or JSON objects with the keys that --json-keys names"
            )
    for language in dict.fromkeys(file.language for file in files if augmentation.templates):
        rows, bad = template_rows(language, augmentation.templates, Random(f"{seed} {language}")), Counter[str]()
        noisy = augmented(rows, augmentation, Random(f"{seed} {language} noise"), cleaning.max_words)
        file = DataFile("templates", language)
        reports.append(Report(file, encoder.add(corpus, noisy, file, bad), dict(bad)))
    return corpus, reports


def _reasons(bad: Counter[str]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in bad.most_common()) or "it is empty"
