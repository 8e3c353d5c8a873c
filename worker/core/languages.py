"""Languages by code and by English name, and instructions that name a language."""

import re

from worker.core.normalize import normalize

NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian",
    "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian",
    "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sv": "Swedish", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
_CODES = {name.lower(): code for code, name in NAMES.items()}
_INSTRUCTION = re.compile(
    r"^\s*translate\s+(?:the\s+following\s+|this\s+)?(?:(?:\w+\s+)?(?:text|sentence|paragraph)\s+)?"
    r"(?:from\s+\w+\s+)?(?:in)?to\s+(\w+)\s*(?::|\.\s|\n)\s*",
    re.IGNORECASE,
)

_DIRECTION = re.compile(r"(?:^|[._-])([a-z]{2,3})-([a-z]{2,3})\.(?:tsv|jsonl?)(?:\.gz)?$", re.IGNORECASE)


def direction(file_name: str) -> tuple[str, str] | None:
    """Return the source and target language in a name such as `news.en-fr.tsv.gz`; None: it has none.

    >>> direction("test.2016.en-fr.tsv.gz"), direction("talk.tsv")
    (('en', 'fr'), None)
    """
    match = _DIRECTION.search(file_name)
    return (match[1].lower(), match[2].lower()) if match else None


def language_name(code: str) -> str:
    """Return the English name of a language code, or an unknown code as it is.

    >>> language_name("fr"), language_name("xx")
    ('French', 'xx')
    """
    return NAMES.get(code, code)


def language_code(name: str) -> str:
    """Return the code of a language given by name, code or tag, in lower case and without a region.

    >>> language_code("French"), language_code("DE"), language_code("fr-CA")
    ('fr', 'de', 'fr')
    """
    primary = name.lower().partition("-")[0]
    return _CODES.get(primary, primary)


def split_instruction(prompt: str) -> tuple[str | None, str]:
    """Split a leading "Translate to …:" off the prompt: return the target language and the normalised rest.

    Return None and the unchanged prompt where there is no such instruction.

    >>> split_instruction("Translate to French: Hello, how are you?")
    ('fr', 'Hello, how are you?')
    >>> split_instruction("Summarize this text: …")
    (None, 'Summarize this text: …')
    """
    # The added blank lets an instruction match without a text behind it.
    text = normalize(prompt)
    match = _INSTRUCTION.match(text + " ")
    if match is None:
        return None, prompt
    return language_code(match[1]), text[match.end() :]
