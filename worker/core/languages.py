"""Languages by code and by English name, and the instructions that name one."""

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


def language_name(code: str) -> str:
    """The English name of a language code, or the code itself where it is not known.

    >>> language_name("fr"), language_name("xx")
    ('French', 'xx')
    """
    return NAMES.get(code, code)


def language_code(name: str) -> str:
    """The code of a language given by name, code or tag, lower case and without its region.

    >>> language_code("French"), language_code("DE"), language_code("fr-CA")
    ('fr', 'de', 'fr')
    """
    primary = name.lower().partition("-")[0]
    return _CODES.get(primary, primary)


def split_instruction(prompt: str) -> tuple[str | None, str]:
    """Return the target language that a leading "Translate to …:" names, and the text behind it, normalised; None and
    the text as it is without one.

    >>> split_instruction("Translate to French: Hello, how are you?")
    ('fr', 'Hello, how are you?')
    >>> split_instruction("Summarize this text: …")
    (None, 'Summarize this text: …')
    """
    # The blank lets an instruction stand without a text behind it.
    text = normalize(prompt)
    match = _INSTRUCTION.match(text + " ")
    if match is None:
        return None, prompt
    return language_code(match[1]), text[match.end() :]
