"""Sessions at which owners have failed, one after another: brought back alone, and ended where it is their fault.

Whoever takes a session and dies without getting further with it is counted in its state; who lives, or gave it back,
is not. But many sessions have such owners when a worker is killed, or its network stands still: so one with several is
brought back alone, and only who fails at it then counts as a trial that failed. An exception is one at once: the worker
lives, and knows whose it was.
"""

import asyncio
import itertools
import platform
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from protocol import WIRE_VERSION
from protocol.keys import EVENT_FIELD
from worker.app.live import MAX_TRIALS, Live
from worker.app.reports import Reports
from worker.app.table import Table
from worker.io.replies import Denied, Entry
from worker.io.store import Checkpoint, Claim, Store, Suspect

Opened = tuple[int, Checkpoint] | Exception


class Trial:
    """Opens sessions for one worker."""

    def __init__(
        self, store: Store, table: Table, reports: Reports, *, about: Mapping[str, str], on_over: Callable[[], None]
    ) -> None:
        """`about` stands in each dead letter; `on_over` is called when the next suspect may come."""
        self._on_over = on_over
        self._store = store
        self._table = table
        self._reports = reports
        self._about = {**about, "wire_version": WIRE_VERSION, "python": platform.python_version()}
        self.calm = asyncio.Lock()
        """Held by each pass, and while a trial begins: so nothing else is in work during one."""
        self._causes: dict[str, str] = {}  # the last exception at each session that has not got further since
        self._failures = itertools.count(1)
        self._blamed: dict[str, int] = {}  # the last failure at each session whose next owner is to count it

    async def open(self, claims: Sequence[Claim]) -> list[Opened]:
        """Epoch and checkpoint of each session, or what is wrong with its state; Suspect for one that has to wait."""
        answers: list[Opened] = await self._store.open(
            [replace(claim, failure=self._blamed.get(claim.session_id, 0)) for claim in claims]
        )
        for claim in claims:
            self._blamed.pop(claim.session_id, None)
        suspects = [i for i, answer in enumerate(answers) if isinstance(answer, Suspect)]
        if suspects and self._table.alone is None:
            await self._try_alone(claims, answers, suspects[0])
        return answers

    async def _try_alone(self, claims: Sequence[Claim], answers: list[Opened], i: int) -> None:
        if any(not isinstance(answer, Suspect) for answer in answers):
            self._on_over()  # first those that have come with it
            return
        async with self.calm:
            [answers[i]] = await self._store.open([replace(claims[i], is_alone=True)])

    def blame(self, name: str, cause: str) -> None:
        """This worker has failed at the session, and knows why."""
        self._causes[name] = cause
        self._blamed[name] = next(self._failures)
        self._end(name)

    def committed(self, live: Live) -> None:
        """Something of the session is in Redis; once it gets further, nothing is held against it."""
        if live.is_on_trial:
            self._on_over()  # for its next entry
        elif live.is_further and (self._table.accused or self._causes):
            self._causes.pop(live.session_id, None)
            self._end(live.session_id)

    def _end(self, name: str) -> None:
        if name == self._table.accused and self._table.alone is None:
            self._table.accused = ""
            self._on_over()

    async def judge(self, live: Live) -> bool:
        """True if the session has failed too many: it ends, and what it ended at is in the dead-letter stream."""
        if live.saved.failed_trials < MAX_TRIALS:
            return False
        entry_id, fields = await self._evidence(live)
        cause = self._causes.pop(live.session_id, "its worker ended while it worked on the session")
        await self._store.bury(
            {
                "session": live.session_id,
                "source_id": entry_id,
                EVENT_FIELD: fields.get(EVENT_FIELD.encode(), b""),
                "cause": cause,
                "about": msgspec.json.encode(self._about),
            }
        )
        self._reports.buried(live.session_id, cause)
        live.condemn(entry_id, cause)
        return True

    async def _evidence(self, live: Live) -> Entry:
        # The next entry, as each was committed before the next was tried; none: it failed at what it had read before.
        page = (await self._store.read({live.session_id: live.saved.cursor})).get(live.session_id)
        if isinstance(page, Denied):
            return live.saved.cursor, {}
        page = page or await self._store.entry(live.session_id, live.saved.cursor)
        return page[0] if page else (live.saved.cursor, {})
