"""A made-up talk of two sentences, as the events that a wait-2 worker would publish."""

from protocol import OutputTextDelta, SegmentDone, ServerEvent, Session, SessionClosed, SessionCreated, WaitK
from worker.commands import demo_view
from worker.commands.demo_report import Place
from worker.commands.demo_view import View
from worker.commands.talk import Words

SENTENCES: tuple[Words, ...] = (("I", "am", "here."), ("You", "come."))
PLACE = Place("redis://127.0.0.1:6379/0", "demo-1", "fr", WaitK(k=2), is_embedded=True)
CREATED = SessionCreated(seq=1, version=1, session=Session(target_language="fr"), model="a model")
CLOSED = SessionClosed(seq=9, reason="closed", source_words=5, target_words=4)


def delta(segment: int, index: int, word: str, read: int) -> OutputTextDelta:
    """Return a target word of two tokens, 10 ms after its cue."""
    text = f" {word}" if index else word
    return OutputTextDelta(
        seq=2,
        segment=segment,
        index=index,
        word=word,
        text=text,
        tokens=(1, 2),
        source_words_read=read,
        elapsed_ms=50,
        delay_ms=10,
    )


def done(segment: int, text: str, average_lagging: float | None) -> SegmentDone:
    """Return the end of a segment."""
    return SegmentDone(
        seq=3,
        segment=segment,
        text=text,
        source_words=len(SENTENCES[segment]),
        target_words=len(text.split()),
        finish_reason="stop",
        average_lagging=average_lagging,
        elapsed_ms=90,
    )


def play(view: View, *steps: int | ServerEvent, start_ms: int = 1_000) -> View:
    """Return the view after these steps, 100 ms apart: an int speaks a word of that sentence, an event is heard."""
    for number, step in enumerate(steps):
        now_ms = start_ms + 100 * number
        view = demo_view.speak(view, step, now_ms) if isinstance(step, int) else demo_view.hear(view, step, now_ms)
    return view


def first_sentence() -> View:
    """Return the view after sentence 0, with nothing of sentence 1 spoken."""
    words = (delta(0, 0, "Je", 2), 0, delta(0, 1, "suis", 3), delta(0, 2, "là.", 3))
    return play(demo_view.begin(SENTENCES), CREATED, 0, 0, *words, done(0, "Je suis là.", 1.5))


def whole_talk() -> View:
    """Return the view after the whole talk."""
    steps = (1, 1, delta(1, 0, "Viens.", 2), done(1, "Viens.", None), CLOSED)
    return play(first_sentence(), *steps, start_ms=2_000)
