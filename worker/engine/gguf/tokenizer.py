"""From the metadata of a GGUF file to a tokenizer with its chat template.

Two kinds: byte-level BPE (`gpt2`), which cuts text by a rule that the file names; and SentencePiece's BPE (`llama`),
which has scores in place of merges, and writes a space as ▁.
"""

import math
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from worker.engine.errors import UnsupportedModel
from worker.engine.gguf.pretokenizers import PRETOKENIZERS
from worker.engine.gguf.reader import Gguf, read_gguf

_SPACE = "▁"
# Tokens that end a turn whatever the file's metadata say: files often name one end and the template writes another.
_ENDS = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")
)


class TokenType(IntEnum):
    """The type of a token, by llama.cpp's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def load_gguf_tokenizer(path: Path) -> TokenizerWrapper:
    """Load a GGUF file's tokenizer in mlx-lm's wrapper, with all tokens that end a turn. Raises UnsupportedModel."""
    file = read_gguf(path)
    tokens, types = _vocabulary(file)
    backend = _byte_level(file, tokens) if _kind(file) == "gpt2" else _sentencepiece(file, tokens, types)
    backend.add_tokens(list(_added(file, tokens, types)))
    if (bos := _special(file, "bos", tokens)) is not None and _adds_bos(file):
        number = backend.token_to_id(bos)
        backend.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A $B", [(bos, number)])
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    specials = {field: token for key, field in names.items() if (token := _special(file, key, tokens)) is not None}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=str(path),
        chat_template=file.metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **specials,
    )
    return TokenizerWrapper(tokenizer, eos_token_ids=_ends(file, tokens, types))


def _kind(file: Gguf) -> str:
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModel(
            f"{file.path} {'has no tokenizer' if kind is None else f'has a tokenizer of the kind {kind!r}'}; expected "
            "byte-level BPE ('gpt2') or SentencePiece's ('llama'). Use another file of the model, or its safetensors "
            "directory"
        )
    return str(kind)


def _listed(file: Gguf, key: str) -> list[Any]:
    values = file.metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list):
        raise UnsupportedModel(
            f"{file.path} lacks tokenizer.ggml.{key}, so its tokenizer is not known; convert the model anew with a "
            "current llama.cpp, or use its safetensors directory"
        )
    return values


def _vocabulary(file: Gguf) -> tuple[list[str], list[int]]:
    # Tokens and their types, without the unused ones at the end, which only fill up the embedding.
    tokens = _listed(file, "tokens")
    types = file.metadata.get("tokenizer.ggml.token_type") or [TokenType.NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise UnsupportedModel(
            f"{file.path} lists {len(tokens)} tokens and {len(types)} types of tokens; the file is broken: convert the "
            "model anew"
        )
    size = len(tokens)
    while size and types[size - 1] == TokenType.UNUSED:
        size -= 1
    return tokens[:size], types[:size]


def _byte_level(file: Gguf, tokens: list[str]) -> Tokenizer:
    name = file.metadata.get("tokenizer.ggml.pre")
    if name not in PRETOKENIZERS:
        raise UnsupportedModel(
            f"{file.path}: its tokenizer cuts text by the rule {name!r} (tokenizer.ggml.pre); the known ones are "
            f"{', '.join(PRETOKENIZERS)}. Convert the model anew with a current llama.cpp, or use its safetensors "
            "directory"
        )
    rule = PRETOKENIZERS[name]
    merges = [tuple(merge.split(" ", 1)) for merge in _listed(file, "merges")]
    backend = Tokenizer(_bpe(file, tokens, merges, ignore_merges=rule.ignores_merges))
    if rule.normalizes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = rule.build()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: Gguf, tokens: list[str], types: list[int]) -> Tokenizer:
    scores = _listed(file, "scores")
    pieces = [
        piece.replace(" ", _SPACE) if kind == TokenType.USER_DEFINED else piece
        for piece, kind in zip(tokens, types, strict=True)
    ]
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.UNKNOWN), None)
    unknown = unknown or _special(file, "unknown", tokens)
    merges = _merges(pieces, types, scores)
    backend = Tokenizer(_bpe(file, pieces, merges, fuse_unk=True, byte_fallback=True, unk_token=unknown))
    spaces = normalizers.Replace(" ", _SPACE)
    plain = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if file.metadata.get("tokenizer.ggml.add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces])
        backend.decoder = decoders.Sequence([*plain, decoders.Strip(" ", 1, 0)])
    else:
        backend.normalizer = spaces
        backend.decoder = decoders.Sequence(plain)
    return backend


def _merges(pieces: list[str], types: list[int], scores: list[float]) -> list[tuple[str, str]]:
    # SentencePiece joins the pair whose whole has the best score: every way to cut a piece in two is a merge. What the
    # authors defined comes before all others, the short before the long.
    ranks = {
        piece: (-math.inf if kind == TokenType.USER_DEFINED else -score, len(piece))
        for piece, kind, score in zip(pieces, types, scores, strict=True)
        if kind in (TokenType.NORMAL, TokenType.USER_DEFINED)
    }
    merges = [
        (*rank, index, piece)
        for piece, rank in ranks.items()
        for index in range(1, len(piece))
        if piece[:index] in ranks and piece[index:] in ranks
    ]
    return [(piece[:index], piece[index:]) for *_, index, piece in sorted(merges)]


def _bpe(file: Gguf, tokens: list[str], merges: list[Any], **options: Any) -> models.BPE:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise UnsupportedModel(
            f"{file.path} lists {len(tokens) - len(vocabulary)} tokens twice; the file is broken: convert the model "
            "anew, or use its safetensors directory"
        )
    try:
        return models.BPE(vocab=vocabulary, merges=merges, **options)
    except Exception as error:  # tokenizers raises a bare Exception for a merge that makes no token
        raise UnsupportedModel(f"{file.path} holds no usable tokenizer: {error}; convert the model anew") from error


def _added(file: Gguf, tokens: list[str], types: list[int]) -> Iterable[AddedToken]:
    # Tokens to be found in a text before it is cut. Phi-3's swallow the white space behind them.
    strips = file.metadata.get("general.architecture") == "phi3" and _kind(file) == "llama"
    is_spaced = _kind(file) == "llama"
    for token, kind in zip(tokens, types, strict=True):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN):
            is_outer = token in ("<s>", "<unk>", "<|endoftext|>")
            yield AddedToken(token, special=True, normalized=False, rstrip=strips and not is_outer)
        elif kind == TokenType.USER_DEFINED:
            piece = token.replace(" ", _SPACE) if is_spaced else token
            yield AddedToken(piece, special=False, normalized=is_spaced and _SPACE in piece)


def _special(file: Gguf, name: str, tokens: list[str]) -> str | None:
    number: int | None = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
    if number is None:
        return None
    if not 0 <= number < len(tokens):
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.{name}_token_id is {number}, and there are {len(tokens)} tokens; the file is "
            "broken: convert the model anew"
        )
    return tokens[number]


def _adds_bos(file: Gguf) -> bool:
    rule = PRETOKENIZERS.get(file.metadata.get("tokenizer.ggml.pre", ""))
    default = _kind(file) == "llama" or (rule is not None and rule.adds_bos)
    return bool(file.metadata.get("tokenizer.ggml.add_bos_token", default))


def _ends(file: Gguf, tokens: list[str], types: list[int]) -> set[int]:
    named = {file.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
    known = {i for i, token in enumerate(tokens) if token in _ENDS and types[i] == TokenType.CONTROL}
    return {number for number in named if number is not None} | known
