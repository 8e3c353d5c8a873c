"""Carry out `worker.core.quarantine`: claim sessions, run suspects alone, write dead letters."""

import asyncio
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from protocol import WIRE_VERSION
from protocol.keys import EVENT_FIELD
from worker.app.handle import SessionHandle
from worker.app.telemetry import Telemetry
from worker.core import quarantine
from worker.core.quarantine import Action, Committed, Failed, Look, Observation, Opened, Ran, Released, Suspects
from worker.io.replies import Denied, Entry
from worker.io.store import Claim, Store, Suspect, Taken

Answer: TypeAlias = Taken | Exception
"""The result of a claim: the session, or why it was not taken."""


class Quarantine:
    """Carries out the quarantine for one worker."""

    def __init__(
        self, store: Store, telemetry: Telemetry, *, about: Mapping[str, str], on_look: Callable[[], None]
    ) -> None:
        """`about` is copied into each dead letter. `on_look` is called when it is time to retry withheld sessions and
        entries.
        """
        self.pass_lock = asyncio.Lock()
        """Each pass holds this lock. Other code holds it to be sure that no pass is running."""
        self._store = store
        self._telemetry = telemetry
        self._about = {**about, "wire_version": WIRE_VERSION, "python": platform.python_version()}
        self._on_look = on_look
        self._suspects = Suspects()

    @property
    def exclusive(self) -> str:
        """The session that must run alone, or ''."""
        return self._suspects.exclusive

    def can_take(self, name: str, now_ms: int) -> bool:
        """Tell whether this worker's last failure at the session, if any, is long enough ago."""
        return self._suspects.can_take(name, now_ms)

    async def open(self, claims: Sequence[Claim]) -> list[Answer]:
        """Claim the sessions. If one must run alone and may now, claim it again between two passes."""
        claims = [replace(claim, failure=self._suspects.failure_number(claim.session_id)) for claim in claims]
        answers: list[Answer] = await self._store.open(claims)
        for name in self._opened(claims, answers):
            [i] = [i for i, claim in enumerate(claims) if claim.session_id == name]
            async with self.pass_lock:
                answers[i : i + 1] = await self._store.open([replace(claims[i], is_alone=True)])
                self._opened(claims[i : i + 1], answers[i : i + 1])
        return answers

    def _opened(self, claims: Sequence[Claim], answers: Sequence[Answer]) -> list[str]:
        # Returns the sessions to be taken alone.
        answered = {claim.session_id: answer for claim, answer in zip(claims, answers, strict=True)}
        taken = {name: answer.record for name, answer in answered.items() if not isinstance(answer, Exception)}
        withheld = tuple(name for name, answer in answered.items() if isinstance(answer, Suspect))
        return [action.name for action in self._step(Opened(taken, withheld)) if not isinstance(action, Look)]

    def failed(self, name: str, cause: str, now_ms: int, *, is_counted: bool = True) -> None:
        """Note that this worker has failed at the session. `is_counted=False`: the session is not to blame (e.g. Redis
        denied access).
        """
        self._step(Failed(name, cause, now_ms, is_counted))

    def ran(self, name: str) -> None:
        """Note a pass over the session."""
        if name == self._suspects.quarantined:  # nearly always: none
            self._step(Ran(name))

    def committed(self, handle: SessionHandle) -> None:
        """Note a commit of the session."""
        if handle.record.is_quarantined or self._suspects.knows(handle.session_id):
            self._step(Committed(handle.session_id, handle.record))

    def released(self, name: str) -> None:
        """Note that the session is not held any more."""
        if name == self._suspects.quarantined:
            self._step(Released((name,)))

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the failures at sessions that this worker may no longer take: those that satisfy `is_gone`."""
        if names := [name for name in self._suspects.failures if is_gone(name)]:
            self._step(Released(names, is_for_good=True))

    def _step(self, observation: Observation) -> tuple[Action, ...]:
        self._suspects, actions = quarantine.step(self._suspects, observation)
        if Look() in actions:
            self._on_look()
        return actions

    async def end_poison(self, handle: SessionHandle) -> bool:
        """If the session has used up its attempts, end it and write its current entry to the dead-letter stream.

        Return whether it was ended.
        """
        if not handle.record.is_poison:
            return False
        entry_id, fields = await self._evidence(handle)
        failure = self._suspects.failures.get(handle.session_id)
        cause = failure.cause if failure else "its worker ended while it worked on the session"
        await self._store.dead_letter(
            {
                "session": handle.session_id,
                "source_id": entry_id,
                EVENT_FIELD: fields.get(EVENT_FIELD.encode(), b""),
                "cause": cause,
                "about": msgspec.json.encode(self._about),
            }
        )
        self._telemetry.dead_letter(handle.session_id, cause)
        handle.end_as_poison(entry_id, cause)
        return True

    async def _evidence(self, handle: SessionHandle) -> Entry:
        # The next entry, as each was committed before the next was tried; none: it failed at what it had read before.
        page = (await self._store.read({handle.session_id: handle.saved.cursor})).get(handle.session_id)
        if isinstance(page, Denied):
            return handle.saved.cursor, {}
        page = page or await self._store.entry(handle.session_id, handle.saved.cursor)
        return page[0] if page else (handle.saved.cursor, {})
