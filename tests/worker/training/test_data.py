"""Cleaning and tokenising: what is learned is what will be served."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.training.corpus import ROWS, write_tsv
from worker.core.rows import Refused
from worker.engine.text.card import Card
from worker.engine.text.tokenizer import Vocabulary
from worker.library.preparation import StreamingDataPreparator
from worker.training.batches import MULTIPLE, Place, batches_from, epoch_batches
from worker.training.data import Cleaning, Encoder, clean_rows, load_corpus
from worker.training.errors import DataError
from worker.training.files import DataFile, Keys
from worker.training.pairs import Corpus

WORDS = (("It’s", "42", "o'clock."), ("Il", "est", "42", "heures."))


def test_pairs_are_tokenised_as_served(starter_vocabulary: Vocabulary) -> None:
    """Source tokens and segments are those that the service reads, target tokens those that it writes."""
    pair = Encoder(starter_vocabulary).pair(WORDS, "fr")
    if pair is None:
        raise AssertionError("the pair is short enough")
    preparator = StreamingDataPreparator(starter_vocabulary.tokenizer, target_language="fr")
    _, tokens, lengths = preparator.prepare_source_text("It’s 42 o'clock.")
    assert pair.source.tolist() == tokens
    assert np.diff(pair.bounds, prepend=0).tolist() == lengths
    words = [starter_vocabulary.encode_word(word, "x") for word in WORDS[1]]
    assert pair.target.tolist() == [4, *(token for word in words for token in word), 3]
    assert pair.predicts.tolist() == [t for t, word in enumerate([*words, (3,)]) for _ in word]
    assert starter_vocabulary.decode(pair.target.tolist()).strip() == "Il est 42 heures."


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u00ad", "\u2060"])
def test_invisible_characters_are_in_no_word(mark: str, tmp_path: Path) -> None:
    """Neither side learns them, wherever they stand; they make no row of their own and lose none."""
    path = tmp_path / "a.tsv"
    path.write_text(
        f"{mark}We are{mark} here.\t{mark}Nous som{mark}mes ici.\nThank you.\tMerci{mark} !\n", encoding="utf-8"
    )
    lost: Counter[str] = Counter()
    rows = list(clean_rows(DataFile(str(path), "fr"), Keys(), Cleaning(), lost))
    assert rows == [(("We", "are", "here."), ("Nous", "sommes", "ici.")), (("Thank", "you."), ("Merci", "!"))]
    assert not lost


def test_token_mode_counts_tokens(starter_vocabulary: Vocabulary) -> None:
    """The same tokens, each a unit of its own on both sides."""
    word, token = (Encoder(starter_vocabulary, split).pair(WORDS, "de") for split in ("word", "token"))
    if word is None or token is None:
        raise AssertionError("the pair is short enough")
    assert token.source.tolist() == word.source.tolist()
    assert np.diff(token.bounds).tolist() == [1] * (len(token.source) - 1)
    assert token.predicts.tolist() == list(range(len(token.target) - 1))


def test_scripts_without_spaces_are_read_by_characters(starter_vocabulary: Vocabulary, tmp_path: Path) -> None:
    """In word mode wait-k counts characters there, with their punctuation, as it does in serving."""
    file = write_tsv(tmp_path / "ja.tsv", [("今日は、晴れ。", "Il fait beau.")])
    ((source, target),) = clean_rows(DataFile(str(file), "fr"), Keys(), Cleaning())
    assert source == ("今", "日", "は、", "晴", "れ。")
    pair = Encoder(starter_vocabulary).pair((source, target), "fr")
    if pair is None:
        raise AssertionError("the pair is short enough")
    assert len(pair.bounds) == 1 + len(source) + 1
    ends = [starter_vocabulary.decode(pair.source[1:stop].tolist()).strip() for stop in pair.bounds[1:-1]]
    assert ends == ["今", "今日", "今日は、", "今日は、晴", "今日は、晴れ。"]


def test_a_chat_model_is_trained_in_its_own_template() -> None:
    """The instruction and the template frame the words; the answer's header is fed, but not learned."""
    vocabulary = Vocabulary(chat_tokenizer(), Card(), max_positions=2048)
    encoder = Encoder(vocabulary)
    pair, prompt = encoder.pair((("Good", "day"), ("Bon", "jour")), "fr"), encoder.prompt("fr")
    if pair is None:
        raise AssertionError("the pair is short enough")
    assert vocabulary.decode(prompt.source).endswith("French. Output only the translation.\n\n")
    assert vocabulary.decode(pair.source[len(prompt.source) :].tolist()).startswith("Good day")
    assert pair.target[: len(prompt.target)].tolist() == list(prompt.target)
    assert vocabulary.decode(pair.target[pair.num_given + 1 :].tolist()) == "Bon jour"
    assert pair.predicts[pair.num_given :].tolist() == [0] * 3 + [1] * 5 + [2]


def test_an_unknown_language_is_refused(starter_vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A tag that the model does not know ends the run before it begins, and tells which ones it knows."""
    file = DataFile(str(write_tsv(tmp_path / "a.tsv")), "it")
    with pytest.raises(Refused, match=r"fr \(French\) or de"):
        load_corpus([file], Encoder(starter_vocabulary))


def test_rows_that_teach_nothing_are_left_out(tmp_path: Path) -> None:
    """Duplicates, copies, empty sides, long rows, rows that do not match and broken text, each counted."""
    long_ = " ".join(["word"] * 30)
    rows = [
        ("a b", "c d"),
        ("a  b", "c d"),
        ("same", "same"),
        ("", "x"),
        (long_, long_ + "s"),
        ("a", "b " * 9),
        ("\ufffd", "b"),
    ]
    path = write_tsv(tmp_path / "a.tsv", rows)
    bad: Counter[str] = Counter()
    kept = list(clean_rows(DataFile(str(path), "fr"), Keys(), Cleaning(max_words=20), bad))
    assert kept == [(("a", "b"), ("c", "d"))]
    reasons = ["twice", "source is target", "empty side", "more than 20 words", "lengths do not match", "no UTF-8"]
    assert bad == dict.fromkeys(reasons, 1)


def test_a_file_without_usable_rows_says_why(starter_vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A file with one column ends the run with the reason and what was expected."""
    path = write_tsv(tmp_path / "a.tsv", [("only",), ("one",)])
    with pytest.raises(DataError, match=r"2 × fewer than two columns.*tab"):
        load_corpus([DataFile(str(path), "fr")], Encoder(starter_vocabulary))


@pytest.fixture(scope="module")
def corpus(starter_vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The toy rows, once for French and twice and a half for German."""
    path = str(write_tsv(tmp_path_factory.mktemp("data") / "a.tsv"))
    files = [DataFile(path, "fr"), DataFile(path, "de", 2.5)]
    corpus, reports = load_corpus(files, Encoder(starter_vocabulary))
    assert [report.used for report in reports] == [len(ROWS)] * 2
    return corpus


def test_a_corpus_gives_back_what_was_added(corpus: Corpus, starter_vocabulary: Vocabulary) -> None:
    """Compact storage changes nothing."""
    source, target = (tuple(text.split()) for text in ROWS[3])
    expected = Encoder(starter_vocabulary).pair((source, target), "fr")
    if expected is None:
        raise AssertionError("the pair is short enough")
    for name in ("source", "bounds", "target", "predicts"):
        assert getattr(corpus[3], name).tolist() == getattr(expected, name).tolist()
    assert corpus.lengths()[3] == expected.num_tokens


def test_an_epoch_has_every_pair_by_its_weight(corpus: Corpus) -> None:
    """Weight 1: once; weight 2.5: twice or three times. No batch is larger than asked, padding included."""
    batches = epoch_batches(corpus, 128, seed=1, epoch=0)
    counts = np.bincount(np.concatenate(batches), minlength=len(corpus))
    half = len(ROWS)
    assert set(counts[:half]) == {1}
    assert set(counts[half:]) == {2, 3}
    lengths = -(-corpus.lengths() // MULTIPLE) * MULTIPLE
    assert max(max(lengths[batch]) * len(batch) for batch in batches) <= 128
    by_length = sorted(batches, key=lambda batch: (min(lengths[batch]), max(lengths[batch]), -len(batch)))
    for one, other in pairwise(by_length):  # neighbours in length are together, and no batch has room for the next one
        assert max(lengths[one]) <= min(lengths[other])
        assert min(lengths[other]) * (len(one) + 1) > 128
    assert min(map(len, epoch_batches(corpus, 1, seed=1, epoch=0))) == 1


def test_batches_go_on_from_any_place(corpus: Corpus) -> None:
    """From the place behind batch n come the batches n + 1 and so on, across epochs, which differ in their order."""
    stream = batches_from(lambda epoch: epoch_batches(corpus, 256, 7, epoch), Place())
    seen = [next(stream) for _ in range(2 * len(epoch_batches(corpus, 256, 7, 0)))]
    assert {place.epoch for _, place in seen} == {0, 1}
    for n in (0, 3, len(seen) - 2):
        again = batches_from(lambda epoch: epoch_batches(corpus, 256, 7, epoch), seen[n][1])
        assert next(again)[0].tolist() == seen[n + 1][0].tolist()
    assert seen[0][0].tolist() != seen[len(seen) // 2][0].tolist()
