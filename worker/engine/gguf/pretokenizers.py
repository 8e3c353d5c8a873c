"""Rules by which byte-level BPE cuts a text before it merges, by llama.cpp's names."""

from typing import NamedTuple

from tokenizers import Regex, pre_tokenizers

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"


class PreTokenizer(NamedTuple):
    """One rule. Without a pattern it is that of GPT-2."""

    pattern: str = ""
    splits_digits: bool = False  # each digit by itself, before all else
    ignores_merges: bool = False  # a piece that is a token is not merged from parts
    normalizes: bool = False  # to NFC
    adds_bos: bool = False  # before each text, unless the file says otherwise

    def build(self) -> pre_tokenizers.PreTokenizer:
        """Build the pre-tokenizer: the rule, then the bytes."""
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.splits_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not self.pattern))
        return pre_tokenizers.Sequence(steps)


def _words(digits: str) -> str:
    return rf"{_CONTRACTION}|{_LEAD}\p{{L}}+|{digits}|{_SYMBOLS}|{_REST}"


def _cased(digits: str, ending: str) -> str:
    # Words are cut where a lower-case letter meets an upper-case one.
    words = rf"{_LEAD}{_UPPER}*{_LOWER}+{ending}|{_LEAD}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"


_GPT2 = PreTokenizer()
_CODE = PreTokenizer(splits_digits=True)
_QWEN2 = PreTokenizer(_words(r"\p{N}"), normalizes=True)
_LLAMA3 = PreTokenizer(_words(r"\p{N}{1,3}"), ignores_merges=True, adds_bos=True)
_CL100K = PreTokenizer(_words(r"\p{N}{1,3}"))

PRETOKENIZERS = {
    "gpt-2": _GPT2,
    "olmo": _GPT2,
    "smollm": _CODE,
    "starcoder": _CODE,
    "refact": _CODE,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "smaug-bpe": _CL100K,
    "dbrx": _CL100K,
    "tekken": PreTokenizer(_cased(r"\p{N}", ""), ignores_merges=True, adds_bos=True),
    "gpt-4o": PreTokenizer(_cased(r"\p{N}{1,3}", f"{_CONTRACTION}?")),
}
