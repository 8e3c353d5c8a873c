"""Defaults of an evaluation. Imports nothing: the command line shows them in its help."""

from typing import Final

WAIT_K: Final = (1, 3, 5, 7)
"""Policies besides offline."""

ROWS: Final = 32
"""Sentences to a tick."""

WORD_MS: Final = 300.0
"""A spoken source word, as SimulEval has it."""

MAX_NEW_WORDS: Final = 256
"""Most words of one translation, to cut a model that repeats itself without end."""
