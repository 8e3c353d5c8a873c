"""A target stream as output: running text for people, or one JSON line for each event. No I/O."""

import unicodedata
from statistics import fmean
from typing import Final

from msgspec import Struct

from protocol import Error, OutputTextDelta, SegmentDone, ServerEvent, SessionClosed, encode

_REPLACEMENT: Final = "\ufffd"


class Shown(Struct, frozen=True):
    """Text for the standard output and for the standard error."""

    out: str = ""
    err: str = ""


class JsonLines:
    """A view with one line of JSON for each event."""

    is_midline: bool = False

    def show(self, event: ServerEvent) -> Shown:
        """Return the event's line."""
        return Shown(out=encode(event).decode() + "\n")


class Transcript:
    """A view of the translation as running text, a line for each segment; errors apart; a summary at the end."""

    def __init__(self) -> None:
        self.is_midline = False
        self._lags_words: list[float] = []

    def show(self, event: ServerEvent) -> Shown:
        """Return what to print for the event."""
        match event:
            case OutputTextDelta(text=text):
                self.is_midline = True
                return Shown(out=printable(text))
            case SegmentDone(average_lagging=lag):
                self._lags_words += [] if lag is None else [lag]
                return Shown(out=self._end_line())
            case Error(code=code, message=message):
                return Shown(err=f"error {printable(code)}: {printable(message)}\n")
            case SessionClosed():
                return Shown(out=self._end_line(), err=self._summary(event))
            case _:
                return Shown()

    def _end_line(self) -> str:
        end = "\n" if self.is_midline else ""
        self.is_midline = False
        return end

    def _summary(self, closed: SessionClosed) -> str:
        lag = f"{fmean(self._lags_words):.1f} words" if self._lags_words else "undefined"
        words = f"{closed.source_words} source words, {closed.target_words} target words"
        return f"session {closed.reason}: {words}, average lagging {lag}\n"


def printable(text: str) -> str:
    """Replace control characters, which could move the cursor of a terminal or change its colours.

    >>> printable("a\\x1b[2Jb")
    'a\ufffd[2Jb'
    """
    return "".join(_REPLACEMENT if unicodedata.category(char) == "Cc" and char not in "\n\t" else char for char in text)
