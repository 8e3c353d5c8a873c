"""The tokenizer of a GGUF file: the ids that the tokenizer it was made from gives, in many scripts."""

import io
import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import Tokenizer
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from protocol import Session
from tests.worker.engine.gguf.writing import TEXTS, byte_tokenizer, tokenizer_metadata, write
from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.tokenizer import load_gguf_tokenizer
from worker.engine.text.card import Card
from worker.engine.text.examples import examples
from worker.engine.text.tokenizer import Vocabulary

# As the tokenizer.json of the model that each rule is named after has it.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
WEIGHTS = {"token_embd.weight": np.zeros((1, 32), np.float32)}


def split(pattern: str) -> list[dict[str, Any]]:
    """The pre-tokenizer of a tokenizer.json that cuts by a pattern."""
    return [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, BYTES]


DIGITS = [{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}]
RULES = {
    "smollm": (DIGITS, False),
    "llama-bpe": (split(LLAMA3), True),
    "dbrx": (split(LLAMA3), False),
    "tekken": (split(TEKKEN), True),
    "gpt-4o": (split(GPT4O), False),
}
OWN_CLASS = {"qwen2": Qwen2Tokenizer, "gpt-2": GPT2Tokenizer}
LEARNED = byte_tokenizer(900)


def reference(pre: str) -> Tokenizer:
    """The tokenizer that transformers or a tokenizer.json gives for a rule, with the vocabulary of `LEARNED`."""
    spec = json.loads(LEARNED.backend_tokenizer.to_str())
    vocabulary, merges = spec["model"]["vocab"], [tuple(merge) for merge in spec["model"]["merges"]]
    if pre in OWN_CLASS:
        backend: Tokenizer = OWN_CLASS[pre](vocab=vocabulary, merges=merges).backend_tokenizer
        return backend
    steps, ignores_merges = RULES[pre]
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    spec["model"]["ignore_merges"] = ignores_merges
    return Tokenizer.from_str(json.dumps(spec))


def ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text and nothing else."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    found: list[int] = backend.encode(text, add_special_tokens=False).ids
    return found


def load(directory: Path, values: dict[str, Any], architecture: str = "llama") -> TokenizerWrapper:
    """The tokenizer of a file that says this."""
    return load_gguf_tokenizer(write(directory / "model.gguf", architecture, values, WEIGHTS))


@pytest.mark.parametrize("pre", [*OWN_CLASS, *RULES])
def test_byte_level(tmp_path: Path, pre: str) -> None:
    """Each rule cuts as the tokenizer it is named after."""
    tokenizer = load(tmp_path, tokenizer_metadata(LEARNED, pre))
    expected = reference(pre)
    for text in TEXTS:
        assert ids(tokenizer, text) == ids(expected, text), text
    assert len({tuple(ids(reference(rule), TEXTS[0])) for rule in (*OWN_CLASS, *RULES)}) > 3  # they do differ


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> TokenizerWrapper:
    """A tokenizer that cuts as Qwen's."""
    return load(tmp_path_factory.mktemp("qwen"), tokenizer_metadata(LEARNED, "qwen2"))


EXPECTED = reference("qwen2")


@given(st.text(max_size=40))
def test_any_text_byte_level(qwen: TokenizerWrapper, text: str) -> None:
    """The same ids for whatever one can write."""
    assert ids(qwen, text) == ids(EXPECTED, text)


def test_ends_and_template(tmp_path: Path) -> None:
    """The end that the metadata name, the one of the template, and the template itself; tokens that only fill up the
    embedding are none.
    """
    values = tokenizer_metadata(LEARNED)
    size = len(values["tokenizer.ggml.tokens"])
    values["tokenizer.ggml.tokens"] += ["<|eot_id|>", "[PAD0]", "[PAD1]"]
    values["tokenizer.ggml.token_type"] += [3, 5, 5]
    values |= {"tokenizer.ggml.eos_token_id": 5, "tokenizer.ggml.bos_token_id": 7, "tokenizer.ggml.add_bos_token": True}
    tokenizer = load(tmp_path, values)
    assert tokenizer.eos_token_ids == {5, size - 1, size}
    assert tokenizer.vocab_size == size + 1
    assert tokenizer.encode("a")[0] == 7
    message = [{"role": "user", "content": "hi"}]
    expected = LEARNED.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True) == expected


DEFINED = {"\n", "\n\n", "\n\n\n", "▁▁", "</li>"}


def train(*, has_prefix: bool) -> sentencepiece.SentencePieceProcessor:
    """A SentencePiece tokenizer with bytes for what it does not know: with a space before each text, as Llama's and
    Phi-3's, or with symbols that its authors defined, as Gemma's.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines() if line] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=620,
        byte_fallback=True,
        character_coverage=0.98,
        add_dummy_prefix=has_prefix,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=[] if has_prefix else sorted(DEFINED),
        control_symbols=["<start>", "<end>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sentencepiece_metadata(model: sentencepiece.SentencePieceProcessor, *, has_prefix: bool) -> dict[str, Any]:
    """What llama.cpp's converter says of it: symbols of the authors' with plain spaces."""
    numbers = range(model.vocab_size())
    pieces = [model.id_to_piece(i) for i in numbers]
    kinds = ((2, model.is_unknown), (3, model.is_control), (6, model.is_byte), (4, lambda i: pieces[i] in DEFINED))
    types = [next((kind for kind, holds in kinds if holds(i)), 1) for i in numbers]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.replace("▁", " ") if piece in DEFINED else piece for piece in pieces],
        "tokenizer.ggml.scores": [float(model.get_score(i)) for i in numbers],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_space_prefix": has_prefix,
    }


@pytest.mark.parametrize("has_prefix", [True, False])
def test_sentencepiece(tmp_path: Path, has_prefix: bool) -> None:
    """The ids that SentencePiece itself gives, and the text back."""
    model = train(has_prefix=has_prefix)
    tokenizer = load(tmp_path, sentencepiece_metadata(model, has_prefix=has_prefix))
    for text in filter(None, TEXTS):
        assert ids(tokenizer, text) == model.encode(text), text
        assert tokenizer.backend_tokenizer.decode(ids(tokenizer, text)) == text
    assert tokenizer.encode("a")[0] == model.bos_id()
    assert ids(tokenizer, "<start>") == [model.piece_to_id("<start>")]


@pytest.mark.parametrize("has_prefix", [True, False])
def test_words_of_a_sentencepiece_vocabulary(tmp_path: Path, has_prefix: bool) -> None:
    """A word has its space, and users cannot write special tokens."""
    values = sentencepiece_metadata(train(has_prefix=has_prefix), has_prefix=has_prefix)
    template = "{% for m in messages %}<start>{{ m.role }} {{ m.content }}<end>{% endfor %}<start>model\n"
    vocabulary = Vocabulary(load(tmp_path, {**values, "tokenizer.chat_template": template}), Card())
    tokens = [*vocabulary.encode_word("dogs", ""), *vocabulary.encode_word("jump", "dogs")]
    assert vocabulary.decode(tokens) == "dogs jump"
    for special in ("<start>", "<end>"):
        assert vocabulary.encode_special(special)[0] not in vocabulary.encode_word(special, "dogs")
        assert vocabulary.decode(vocabulary.encode_word(special, "dogs")).strip() == special


CHATS = {
    "chatml": (
        "{% for m in messages %}<start>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
    ),
    "mistral": "<s>{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
    "phi3": (
        "{% for m in messages %}<start>\n{{ m.content | trim }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>\n{% else %}</s>{% endif %}"
    ),
    "gemma": (
        "<s>{% for m in messages %}<start>{{ m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>model\n{% endif %}"
    ),
}


@pytest.mark.parametrize("has_prefix", [True, False])
@pytest.mark.parametrize("chat", CHATS)
def test_a_prompt_and_its_words_are_the_rendered_template(tmp_path: Path, chat: str, has_prefix: bool) -> None:
    """Token for token what llama.cpp or transformers would show the model: no second space, no second end."""
    values = {**sentencepiece_metadata(train(has_prefix=has_prefix), has_prefix=has_prefix)}
    tokenizer = load(
        tmp_path, {**values, "tokenizer.chat_template": CHATS[chat]}, "phi3" if chat == "phi3" else "llama"
    )
    vocabulary = Vocabulary(tokenizer, Card())
    prompt = vocabulary.prompt(Session(target_language="fr"))
    text = ["The", "quick", "brown", "fox"]
    words = [vocabulary.encode_word(word, before) for before, word in zip(["", *text], text, strict=False)]
    instruction = "Translate the following English text to French. Output only the translation.\n\n"
    turns = [turn for question, answer in examples("en", "fr") for turn in ((instruction + question), answer)]
    roles = cycle(("user", "assistant"))
    messages = [
        {"role": role, "content": content}
        for role, content in zip(roles, [*turns, instruction + " ".join(text)], strict=False)
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert [*prompt.source, *(token for word in words for token in word), *prompt.end, *prompt.target] == ids(
        tokenizer, rendered
    )


@pytest.mark.parametrize(
    ("pre", "says", "adds"), [("llama-bpe", None, True), ("qwen2", None, False), ("tekken", False, False)]
)
def test_the_token_before_a_text(tmp_path: Path, pre: str, says: bool | None, adds: bool) -> None:
    """Llama 3 has one even where the file does not say so."""
    values = {**tokenizer_metadata(LEARNED, pre), "tokenizer.ggml.bos_token_id": 7}
    if says is not None:
        values["tokenizer.ggml.add_bos_token"] = says
    assert (load(tmp_path, values).encode("a")[0] == 7) == adds


def test_phi_3s_special_tokens_swallow_the_space_behind_them(tmp_path: Path) -> None:
    """As in its tokenizer.json; the beginning of a text does not."""
    values = sentencepiece_metadata(train(has_prefix=True), has_prefix=True)
    tokenizer = load(tmp_path, values, "phi3")
    assert ids(tokenizer, "<start>\nword") == ids(tokenizer, "<start>word")
    assert ids(tokenizer, "<s>\nword") != ids(tokenizer, "<s>word")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokenizer.ggml.model": None}, "has no tokenizer"),
        ({"tokenizer.ggml.model": "t5"}, "kind 't5'"),
        ({"tokenizer.ggml.tokens": None}, "lacks tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.merges": None}, "lacks tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["no such"]}, "no usable tokenizer"),
        ({"tokenizer.ggml.pre": None}, r"rule None .*qwen2"),
        ({"tokenizer.ggml.pre": "viking"}, r"rule 'viking' .*qwen2"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "2 types"),
        ({"tokenizer.ggml.eos_token_id": 5000}, "eos_token_id is 5000"),
        ({"tokenizer.ggml.tokens": ["a"] * len(LEARNED)}, "tokens twice"),
    ],
)
def test_a_tokenizer_that_cannot_be_had(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """The error names the file, and what is wrong in it."""
    values = {key: value for key, value in {**tokenizer_metadata(LEARNED), **change}.items() if value is not None}
    with pytest.raises(UnsupportedModel, match=rf"model\.gguf.*{reason}"):
        load(tmp_path, values)


def test_a_base_model_has_no_template(tmp_path: Path) -> None:
    """Without a template the tokenizer still is one."""
    values = tokenizer_metadata(LEARNED)
    del values["tokenizer.chat_template"]
    tokenizer = load(tmp_path, values)
    assert tokenizer.chat_template is None
    assert isinstance(tokenizer._tokenizer, PreTrainedTokenizerFast)
