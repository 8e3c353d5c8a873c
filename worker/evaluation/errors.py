"""Errors of the evaluation.

EvaluationError
|- UnusableCorpus       a test file that cannot be read as source and reference
|- UnusableSentence     a sentence that the model cannot take
`- NotComparable        results that do not belong to the same test set
"""


class EvaluationError(Exception):
    """The evaluation is not possible; the message says why and what to do."""


class UnusableCorpus(EvaluationError):
    """A line of the test file is not a source, a tab and a reference."""


class UnusableSentence(EvaluationError):
    """The model refuses one line of the test set, or fails on it."""


class NotComparable(EvaluationError):
    """Two results hold different sentences."""
