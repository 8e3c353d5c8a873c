"""The generators: words with a lag of k, the same whoever asks and however."""

from copy import copy
from itertools import pairwise
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from protocol import Limits, OutputTextDelta, Sampling, SegmentDone, Session, WaitK
from worker import (
    StreamingDataPreparator,
    StreamingModel,
    calculate_wait_words,
    load,
    stream_generate_streaming,
    stream_generate_streaming_llm,
)
from worker.core.runaway import max_target_words
from worker.core.words import source_words
from worker.engine.errors import UnsupportedPrompt
from worker.engine.text.tokenizer import Vocabulary
from worker.library.running import runner_of
from worker.library.words import generate_words

PROMPT = "Translate to French: The weather is nice and we are going to the park."
NUM_WORDS = 11
LAW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PREPARED = ("token", "text", "word_complete", "source_words_read", "target_words_generated", "wait_lagging")


def told(found: Any) -> list[tuple[Any, ...]]:
    """What does not depend on the clock, of dicts and of responses."""
    rows = [item if isinstance(item, dict) else {name: getattr(item, name) for name in PREPARED} for item in found]
    return [tuple(row[name] for name in PREPARED) for row in rows]


def prepared(tokenizer: Any, prompt: str = PROMPT) -> dict[str, Any]:
    """The source arguments of the lower-level generator."""
    _, token_ids, lengths = StreamingDataPreparator(tokenizer).prepare_source_text(prompt)
    return {"source_token_ids": token_ids, "source_seg_len": lengths}


@LAW
@given(wait_k=st.integers(1, 14))
def test_every_word_reads_what_wait_k_wants(model: StreamingModel, tokenizer: Any, wait_k: int) -> None:
    """Word t has read min(k + t, N) source words or, held back by an early end, more; lags never fall."""
    found = list(stream_generate_streaming_llm(model, tokenizer, PROMPT, wait_k))
    words = [response for response in found if response.word_complete]
    assert [word.target_words_generated for word in words] == list(range(1, len(words) + 1))
    lags = words[-1].wait_lagging
    assert lags == [word.source_words_read for word in words]
    assert lags == sorted(lags)
    segments = [1] * (NUM_WORDS + 2)
    for index, lag in enumerate(lags):
        assert min(calculate_wait_words(segments, index, wait_k), NUM_WORDS) <= lag <= NUM_WORDS
    assert [response.finish_reason for response in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1].finish_reason == "stop"


@LAW
@given(wait_k=st.integers(1, 9), temp=st.sampled_from([0.0, 0.7]), seed=st.integers(0, 99))
def test_both_generators_and_the_services_machine_agree(
    model: StreamingModel, tokenizer: Any, vocabulary: Vocabulary, wait_k: int, temp: float, seed: int
) -> None:
    """Prepared tokens, a prompt, and a session's events give the same words after the same reads."""
    low = list(stream_generate_streaming(model, tokenizer, **prepared(tokenizer), wait_k=wait_k, temp=temp, seed=seed))
    high = stream_generate_streaming_llm(model, tokenizer, PROMPT, wait_k, temp=temp, seed=seed)
    assert told(low) == told(high)
    options = Sampling(temperature=temp, seed=seed)
    session = Session(target_language="fr", policy=WaitK(k=wait_k), sampling=options)
    events = generate_words(model, vocabulary, session, PROMPT.partition(": ")[2])
    deltas = [event for event in events if isinstance(event, OutputTextDelta)]
    words = [item for item in low if item["word_complete"]]
    assert [(item["text"], item["source_words_read"]) for item in words] == [
        (delta.word, delta.source_words_read) for delta in deltas
    ]
    assert [item["token"] for item in low if item["text"]] == [token for delta in deltas for token in delta.tokens]


@LAW
@given(seed=st.integers(0, 10**6), longest=st.integers(1, 4), wait_k=st.integers(1, 4))
def test_nonsense_is_told_like_sense(
    random_model: StreamingModel, tokenizer: Any, vocabulary: Vocabulary, seed: int, longest: int, wait_k: int
) -> None:
    """White space, halves of characters, words cut at their limit: the tokens told are those of the service's words."""
    low = list(
        stream_generate_streaming(
            random_model,
            tokenizer,
            **prepared(tokenizer),
            wait_k=wait_k,
            temp=5.0,
            seed=seed,
            max_new_words=8,
            max_tokens_per_word=longest,
        )
    )
    session = Session(
        target_language="fr",
        policy=WaitK(k=wait_k),
        sampling=Sampling(temperature=5.0, seed=seed),
        limits=Limits(max_new_words=8, max_tokens_per_word=longest),
    )
    events = generate_words(random_model, vocabulary, session, PROMPT.partition(": ")[2])
    deltas = [event for event in events if isinstance(event, OutputTextDelta)]
    ends = [i + 1 for i, item in enumerate(low) if item["word_complete"]]
    words = [tuple(item["token"] for item in low[start:stop]) for start, stop in pairwise([0, *ends])]
    assert words == [delta.tokens for delta in deltas]
    assert [item["text"] for item in low if item["word_complete"]] == [delta.word for delta in deltas]
    assert low[-1]["wait_lagging"] == [delta.source_words_read for delta in deltas]
    assert low[-1]["finish_reason"] in ("stop", "length")


def test_words_grow_token_by_token(model: StreamingModel, tokenizer: Any) -> None:
    """Within a word `text` is the word so far; every token is told once, and counted."""
    found = list(stream_generate_streaming(model, tokenizer, **prepared(tokenizer)))
    before = ""
    for item in found:
        assert item["text"].startswith(before)
        before = "" if item["word_complete"] else item["text"]
    assert [item["generation_tokens"] for item in found] == list(range(1, len(found) + 1))
    assert all(item["generation_tps"] > 0 for item in found)
    text = tokenizer.decode([item["token"] for item in found], skip_special_tokens=True)
    assert text.split() == [item["text"] for item in found if item["word_complete"]]


def test_generators_do_not_disturb_each_other(model: StreamingModel, tokenizer: Any) -> None:
    """Two by turns on one model give what each gives alone, and leave no lanes behind."""
    prompts = [PROMPT, "Translate to German: I do not know where he lives."]
    alone = [told(stream_generate_streaming_llm(model, tokenizer, prompt)) for prompt in prompts]
    both = [stream_generate_streaming_llm(model, tokenizer, prompt) for prompt in prompts]
    by_turns: list[list[Any]] = [[], []]
    while any(len(got) < len(expected) for got, expected in zip(by_turns, alone, strict=True)):
        for got, generator in zip(by_turns, both, strict=True):
            got.extend(told([item for item in [next(generator, None)] if item is not None]))
    assert by_turns == alone


def test_a_generator_closed_early_gives_its_lane_back(
    model: StreamingModel, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    """No keys and values stay behind, whichever generator is left in the middle."""
    runner = runner_of(model, vocabulary)
    held = runner.num_lanes
    for generator in (
        stream_generate_streaming_llm(model, tokenizer, PROMPT),
        generate_words(model, vocabulary, Session(target_language="fr"), "Hello everyone and thank you"),
    ):
        next(iter(generator))
        assert runner.num_lanes == held + 1
        generator.close()
        assert runner.num_lanes == held


def test_every_kind_of_tokenizer_and_of_tokens(model: StreamingModel, tokenizer: Any, shipped_path: str) -> None:
    """transformers' tokenizer, token arrays (n,) and (1, n): the same words."""
    source = prepared(tokenizer)
    expected = told(stream_generate_streaming(model, tokenizer, **source))
    automatic = AutoTokenizer.from_pretrained(shipped_path)
    assert told(stream_generate_streaming(model, automatic, **source)) == expected
    for tokens in (mx.array(source["source_token_ids"]), mx.array([source["source_token_ids"]])):
        lengths = source["source_seg_len"]
        assert told(stream_generate_streaming(model, tokenizer, tokens, lengths, 3)) == expected


def test_limits_end_the_output(model: StreamingModel, tokenizer: Any) -> None:
    """`max_new_words` words, each of at most `max_tokens_per_word` tokens, then "length"."""
    found = list(stream_generate_streaming_llm(model, tokenizer, PROMPT, max_new_words=3, max_tokens_per_word=1))
    assert [item.word_complete for item in found] == [True] * 3
    assert found[-1].finish_reason == "length"


def test_sampling_depends_on_the_seed_alone(model: StreamingModel, tokenizer: Any) -> None:
    """The same seed draws the same words, another one others."""
    options: dict[str, Any] = {"temp": 1.5, "top_p": 0.95, "max_new_words": 8}
    draws = [told(stream_generate_streaming_llm(model, tokenizer, PROMPT, seed=seed, **options)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_repetition_penalty_looks_back_as_far_as_told(model: StreamingModel, tokenizer: Any) -> None:
    """Words said over and over become fewer; with a context of 0 tokens nothing counts as repeated."""
    prompt = "Translate to French: No, no, no, no, no, no, no!"
    options: dict[str, Any] = {"max_new_words": 7}
    greedy = told(stream_generate_streaming_llm(model, tokenizer, prompt, **options))
    options["repetition_penalty"] = 5.0
    assert told(stream_generate_streaming_llm(model, tokenizer, prompt, **options)) != greedy
    assert told(stream_generate_streaming_llm(model, tokenizer, prompt, repetition_context_size=0, **options)) == greedy


def test_nothing_comes_from_nothing(model: StreamingModel, tokenizer: Any) -> None:
    """No tokens, or a prompt without words: no output."""
    assert list(stream_generate_streaming(model, tokenizer, [], [])) == []
    assert list(stream_generate_streaming(model, tokenizer, **prepared(tokenizer, "Translate to French:"))) == []
    assert list(stream_generate_streaming_llm(model, tokenizer, "Translate to French: ")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wait_k": 0}, "wait_k must be a whole number of at least 1, got 0"),
        ({"wait_k": 2.5}, r"wait_k .* got 2\.5"),
        ({"max_new_words": 0}, "max_new_words"),
        ({"max_tokens_per_word": 0}, "max_tokens_per_word"),
        ({"temp": -0.1}, "temp must be 0"),
        ({"temp": float("nan")}, "temp must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"repetition_context_size": -1}, "repetition_context_size"),
        ({"seed": -1}, "seed"),
        ({"position_offset": -1}, "position_offset"),
        ({"source_seg_len": [1, 1]}, "adds up to 2, but source_token_ids holds"),
        ({"source_seg_len": [20]}, "at least two numbers"),
        ({"source_token_ids": [1, -3, 3], "source_seg_len": [1, 1, 1]}, "token ids are 0 or more"),
        ({"source_token_ids": [1, 19999, 3], "source_seg_len": [1, 1, 1]}, "the model knows 16000 tokens"),
        ({"source_token_ids": [1] + [9] * 600 + [3], "source_seg_len": [1, 600, 1]}, "positions reach 512"),
    ],
)
def test_impossible_arguments_are_refused_at_once(
    model: StreamingModel, tokenizer: Any, options: dict[str, Any], message: str
) -> None:
    """At the call, before the first token is asked for, by the argument's name."""
    with pytest.raises(ValueError, match=message):
        stream_generate_streaming(model, tokenizer, **{**prepared(tokenizer), **options})


def test_other_models_and_tokenizers_are_refused(model: StreamingModel, tokenizer: Any, untemplated: Any) -> None:
    """mlx-lm's bare model, and a tokenizer whose model has no prompt."""
    with pytest.raises(TypeError, match="expected a StreamingModel"):
        stream_generate_streaming(model.inner, tokenizer, **prepared(tokenizer))
    with pytest.raises(UnsupportedPrompt, match="neither a chat template"):
        stream_generate_streaming(model, untemplated, [1, 5, 2], [1, 1, 1])


def test_a_model_from_its_arguments_generates(random_model: StreamingModel, tokenizer: Any) -> None:
    """Random weights with the vocabulary of the shipped tokenizer: nonsense, within the limits."""
    found = list(stream_generate_streaming_llm(random_model, tokenizer, PROMPT, max_new_words=4, max_tokens_per_word=3))
    assert found[-1].finish_reason in ("stop", "length")
    assert found[-1].target_words_generated <= 4


def test_a_stock_chat_model_generates(stock: tuple[StreamingModel, Any]) -> None:
    """Its positions run on, which is a φ right behind the source where all of that is read first; a φ of one's own is
    taken as it is, also one that was given to `load`.
    """
    model, tokenizer = stock
    options: dict[str, Any] = {"max_new_words": 3, "max_tokens_per_word": 4}
    source = prepared(tokenizer, "word " * 150)
    behind = len(source["source_token_ids"])
    assert 256 < behind < 500
    moved = copy(model)
    moved.position_offset = 7
    found, expected, near, given = (
        told(stream_generate_streaming(each, tokenizer, **source, **options, wait_k=200, position_offset=offset))
        for each, offset in ((model, None), (model, behind), (model, 7), (moved, None))
    )
    assert found == expected != near
    assert given == near
    assert told(stream_generate_streaming(model, tokenizer, **source, **options)) != expected
    assert model.position_offset == 256


def test_the_model_tells_what_it_is(model: StreamingModel, shipped_path: str) -> None:
    """Name, φ, type and device."""
    for part in ("starter", "φ=0", "float32", "cpu"):
        assert part in repr(model)
    assert "φ=7" in repr(load(shipped_path, position_offset=7)[0])


def test_what_is_no_language_is_copied(model: StreamingModel, tokenizer: Any) -> None:
    """Notes, numbers, another script: the source's own words and tokens, all of it read, at once."""
    for text in ("♪ ♪ ♪", "👩\u200d👧 5🎉", "- 1 2,5 -", "Я не знаю.", "=" * 300):
        found = list(stream_generate_streaming_llm(model, tokenizer, f"Translate to French: {text}"))
        words = [response for response in found if response.word_complete]
        assert [response.text for response in words] == text.split()
        assert [response.source_words_read for response in words] == [len(words)] * len(words)
        assert [response.finish_reason for response in found] == [None] * (len(found) - 1) + ["stop"]
        assert [response.generation_tokens for response in found] == list(range(1, len(found) + 1))
        _, token_ids, lengths = StreamingDataPreparator(tokenizer).prepare_source_text(f"Translate to French: {text}")
        assert [response.token for response in found] == token_ids[lengths[0] : -lengths[-1]]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello 👨\u200d👩 friends.", "Hello friends."),
        ("I love pizza 🍕 and pasta 🍝 .", "I love pizza and pasta ."),
        ("❤\ufe0f 🍕 I love my friends🎉.", "I love my friends."),
        ("5\ufe0f\u20e3 friends live in 🏴\U000e0067\U000e0062\U000e007f England ⏰", "5 friends live in England"),
    ],
)
def test_pictographs_in_a_sentence_change_nothing(
    model: StreamingModel, tokenizer: Any, vocabulary: Vocabulary, text: str, plain: str
) -> None:
    """The words around them are translated as without, since the model has not learned them; the service agrees."""
    for language, code in (("French", "fr"), ("German", "de")):
        expected = told(stream_generate_streaming_llm(model, tokenizer, f"Translate to {language}: {plain}"))
        prompt = f"Translate to {language}: {text}"
        assert told(stream_generate_streaming_llm(model, tokenizer, prompt)) == expected
        assert told(stream_generate_streaming(model, tokenizer, **prepared(tokenizer, prompt))) == expected
        session = Session(target_language=code, policy=WaitK(k=3))
        deltas = [e for e in generate_words(model, vocabulary, session, text) if isinstance(e, OutputTextDelta)]
        words = [row for row in expected if row[2]]
        assert [(delta.tokens[-1], delta.word, delta.source_words_read) for delta in deltas] == [
            (row[0], row[1], row[3]) for row in words
        ]


@LAW
@given(
    text=st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from(["where he", "lives.", "♪", "x" * 200, "\ufffd", "мир", "😂"])),
        max_size=5,
    ).map(" ".join)
)
def test_any_text_comes_out_as_words(model: StreamingModel, tokenizer: Any, vocabulary: Vocabulary, text: str) -> None:
    """No exception, no white space and no broken character in a word, and as many words as the source allows; the
    service says the same, however the text is cut into sentences.
    """
    session = Session(target_language="fr", segmentation="sentence")
    for event in generate_words(model, vocabulary, session, text):
        if isinstance(event, SegmentDone):
            assert event.target_words <= max_target_words(event.source_words, is_spaceless=True)
            assert "\ufffd" not in event.text
        else:
            assert event.word == "".join(event.word.split()) != ""
    found = list(stream_generate_streaming_llm(model, tokenizer, f"Translate to French: {text}"))
    words = [response.text for response in found if response.word_complete]
    assert all(word and word == "".join(word.split()) and "\ufffd" not in word for word in words)
    assert len(words) <= max_target_words(len(source_words(text)), is_spaceless=True)
