"""The sessions of a worker on the measured model, without Redis."""

from collections.abc import Callable, Iterable

from protocol import ClientEvent, Error, OutputTextDelta, ServerEvent, Session, SessionClosed, SessionCreate
from worker.commands.faults import CommandError
from worker.core.rows import Engine
from worker.core.sessions import Sessions, run_pass


def create(sessions: Sessions, name: str, options: Session, now_ms: int = 0) -> None:
    """Add a session with these options. Raises CommandError if the model refuses them."""
    sessions.add(name)
    hear(sessions, name, SessionCreate(session=options), now_ms)


def hear(sessions: Sessions, name: str, event: ClientEvent, now_ms: int = 0) -> None:
    """Give an event to a session. Raises CommandError if the session refuses it."""
    _publish(sessions, name, sessions.step(name, event, now_ms=now_ms, is_replay=True))


def write(
    sessions: Sessions, engine: Engine, clock_ms: Callable[[], int] = lambda: 0
) -> list[tuple[str, OutputTextDelta]] | None:
    """Run a pass over all sessions that need one. Return its words by session; None if no session needs one."""
    updates = run_pass(sessions, engine, clock_ms)
    if updates is None:
        return None
    return [(update.name, word) for update in updates for word in _publish(sessions, update.name, update.events)]


def close(sessions: Sessions, engine: Engine) -> None:
    """Forget all sessions and free their lanes."""
    sessions.forget_all()
    run_pass(sessions, engine, lambda: 0)


def _publish(sessions: Sessions, name: str, events: Iterable[ServerEvent]) -> list[OutputTextDelta]:
    words: list[OutputTextDelta] = []
    for event in events:
        match event:
            case Error(message=message):
                raise CommandError(f"the model cannot take this text: {message}")
            case OutputTextDelta():
                words.append(event)
            case SessionClosed():
                sessions.forget(name)
    return words
