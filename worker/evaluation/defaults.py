"""What an evaluation does where nobody says otherwise. Imports nothing: the command line shows these in its help."""

from typing import Final

WAIT_K: Final = (1, 3, 5, 7)
"""Policies besides offline."""

ROWS: Final = 32
"""Sentences to a tick."""

WORD_MS: Final = 300.0
"""A spoken source word, as SimulEval has it."""

MAX_NEW_WORDS: Final = 256
"""Words of one translation: a model that repeats itself without end is cut."""
