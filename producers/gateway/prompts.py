"""Prompts of the documents: an instruction to translate, and the text."""

import re
from typing import Final

_INSTRUCTION: Final = re.compile(
    r"\s*(translate\s+(?:[\w-]+\s+){0,6}(?:in)?to\s+[\w-]+\s*(?::|\.\s|\n))\s*(\S.*)", re.IGNORECASE | re.DOTALL
)


def split_prompt(prompt: str) -> tuple[str | None, str]:
    """Split a leading "Translate to …:" off a prompt: return the instruction and the text; None: there is none.

    >>> split_prompt("Translate to French: Good morning")
    ('Translate to French:', 'Good morning')
    >>> split_prompt("Explain what a firewall is")
    (None, 'Explain what a firewall is')
    """
    found = _INSTRUCTION.fullmatch(prompt)
    return (None, prompt) if found is None else (found[1].strip(), found[2])
