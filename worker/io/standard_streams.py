"""The standard streams of the program: closed, full or stalled ones, and characters that they cannot show.

stdin    closed: at its end; text is UTF-8
stdout   closed: written to nowhere; a character that its encoding lacks is replaced
stderr   the same; and what cannot be written is lost, because no message is worth the work that it is about
"""

import codecs
import io
import json
import os
import select
import sys
import unicodedata
from typing import Any, Final

_NAMES: Final = ("stdin", "stdout", "stderr")
_STDOUT, _STDERR = 1, 2
_PATIENCE_MS: Final = 100
_PLAIN: Final = {
    **{"✓": "+", "✗": "x", "→": "->", "–": "-", "—": "-", "·": "-", "×": "x", "φ": "phi"},
    **{"’": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "œ": "oe", "Œ": "OE", "ß": "ss"},
}


def prepare(*, as_json: bool) -> None:
    """Make the standard streams of this process safe to use; call it before anything else opens a file.

    `as_json`: a character that stdout cannot encode becomes an escape of JSON; otherwise, its nearest in ASCII, or `?`.
    """
    _open_missing()
    codecs.register_error("decalage.plain", _plain)
    codecs.register_error("decalage.json", _json)
    _configure(sys.stdin, encoding="utf-8", errors="strict")
    _configure(sys.stdout, errors="decalage.json" if as_json else "decalage.plain")
    encoding = sys.stderr.encoding
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Lossy()), encoding=encoding, errors="decalage.plain", line_buffering=True
    )


def discard_stdout() -> None:
    """Send what is still to be written to stdout nowhere, so that Python's flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _open_missing() -> None:
    # A closed descriptor would become that of the next file or socket, and messages would be written into it.
    for descriptor, name in enumerate(_NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free descriptor: this one
        if getattr(sys, name) is None:
            raw = io.FileIO(descriptor, "w" if descriptor else "r", closefd=False)
            setattr(
                sys,
                name,
                io.TextIOWrapper(io.BufferedWriter(raw) if descriptor else io.BufferedReader(raw), encoding="utf-8"),
            )


def _configure(stream: Any, **settings: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(**settings)  # type: ignore[arg-type]  # the stub asks for each by name


class _Lossy(io.FileIO):
    """Standard error, without the parts that cannot be written: no space is left, or nobody reads them."""

    def __init__(self) -> None:
        super().__init__(_STDERR, "w", closefd=False)
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)
        self._is_stalled = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for start in range(0, len(view), select.PIPE_BUF):  # so many bytes do not block where a poll says so
            # A reader that pauses gets a moment; one that has stopped, none.
            self._is_stalled = not self._poll.poll(0 if self._is_stalled else _PATIENCE_MS)
            if self._is_stalled:
                break
            try:
                super().write(view[start : start + select.PIPE_BUF])
            except OSError:
                break
        return len(view)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_nearest, error.object[error.start : error.end])), error.end


def _nearest(character: str) -> str:
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _PLAIN.get(character) or base or "?"


def _json(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
