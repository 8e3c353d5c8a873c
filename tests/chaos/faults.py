"""Faults: a plan drawn from a seed, and the director that carries it out."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, Literal

import msgspec

from tests.chaos.fleet import Fleet, Member
from tests.chaos.pace import Pace
from tests.chaos.servers import LastingCluster, LastingRedis
from tests.producers.proxy import Proxy

Kind = Literal["kill", "stop", "hold", "restart", "leave", "lose", "drop", "cut", "jump"]
LARGE: Final[dict[Kind, float]] = {"kill": 7.0, "stop": 6.5, "hold": 6.5, "restart": 4.0, "leave": 4.0}
"""Seconds reserved for each fault, at leases of 3 s.

`kill`: SIGKILL. `stop`: SIGSTOP for longer than the lease, then SIGCONT. `hold`: a worker's requests, a commit among
them, are held up for longer than the lease, then arrive. `restart`: SIGKILL of Redis.
`leave`: SIGTERM.
"""
SMALL: Final[tuple[Kind, ...]] = ("lose", "drop", "cut", "jump")
"""`lose`: drop the reply to a commit with a word. `drop`: drop any replies. `cut`: close connections.
`jump`: set a clock.
"""

_SMALL_EVERY_S: Final = 1.2
_PAUSED_LEASES: Final = 1.45  # a worker is stopped or held up for this long
_DROPPED_REPLIES: Final = 3
_COMMIT: Final = b":target"  # only commits name target streams, and a replay that looks for refused events
_WORD: Final = b"output_text.delta"
_LIMIT_S: Final = 20.0  # for sessions to get a worker, and for it to commit
_WAKE_S: Final = 0.5  # until the status of a worker that was paused is up to date again


class Fault(msgspec.Struct, frozen=True):
    """A fault, `at_s` seconds after the start."""

    at_s: float
    kind: Kind


class Ousting(msgspec.Struct):
    """The forced end of a worker: the sessions to be taken over, and since when."""

    at_s: float  # time.monotonic
    is_planned: bool
    sessions: set[str]


def make_plan(dice: Random, large: Sequence[Kind], small: Sequence[Kind] = SMALL) -> list[Fault]:
    """Plan the large faults in random order, one at a time, and small ones all the while."""
    order, plan, now_s = dice.sample(large, len(large)), [], 1.0
    for kind in order:
        plan.append(Fault(now_s, kind))
        now_s += LARGE[kind]
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(1 / _SMALL_EVERY_S)) < now_s:
        plan.append(Fault(at_s, dice.choice(small)))
    return sorted(plan, key=lambda fault: fault.at_s)


class Director:
    """The executor of a plan. `oustings` lists the sessions to be taken over."""

    def __init__(
        self,
        fleet: Fleet,
        server: LastingRedis | LastingCluster,
        proxies: Sequence[Proxy],
        *,
        pace: Pace,
        dice: Random,
        lease_ms: int,
    ) -> None:
        self.oustings: list[Ousting] = []
        self.done: Counter[str] = Counter()
        self._fleet = fleet
        self._server = server
        self._proxies = proxies  # those of the producers
        self._pace = pace
        self._dice = dice
        self._pause_s = lease_ms / 1000 * _PAUSED_LEASES
        self._paused: set[Member] = set()

    async def run(self, plan: Sequence[Fault]) -> None:
        """Cause all faults at their times and resume paused workers; then let all words be said."""
        self._pace.lower(1)
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(max(0.0, start_s + fault.at_s - time.monotonic()))
                group.create_task(self._cause(fault.kind))
        self._pace.lower(0)

    async def run_in_turn(self, plan: Sequence[Fault]) -> None:
        """Cause the faults one after the other, each while words are said; then let all words be said."""
        portion = self._pace.reserve // (len(plan) + 1)
        for number, fault in enumerate(plan, 1):
            await self._cause(fault.kind, partial(self._pace.lower, 1 + (len(plan) - number) * portion))
        self._pace.lower(0)

    async def _cause(self, kind: Kind, begun: Callable[[], None] = lambda: None) -> None:
        # `begun` is called once the fault is in effect and needs words.
        self.done[kind] += 1
        match kind:
            case "kill":
                await self._oust(await self._victim(), is_planned=False)
            case "leave":
                await self._oust(await self._victim(), is_planned=True)
            case "stop":
                await self._stop(await self._victim())
            case "hold":
                await self._hold(await self._victim(), begun)
            case "restart":
                await asyncio.to_thread(self._server.restart)
            case "lose":
                await self._lose(await self._victim(), begun)
            case "drop":
                self._some_proxy().num_replies_to_drop += _DROPPED_REPLIES
            case "cut":
                self._some_proxy().cut()
            case "jump":
                (await self._victim()).signal(signal.SIGUSR1)
        begun()

    async def _victim(self) -> Member:
        # A worker that holds sessions, for which it may have to wait; after the limit, any worker.
        end_s = time.monotonic() + _LIMIT_S
        while True:
            ready = [member for member in self._fleet.members if member.is_ready and member not in self._paused]
            holders = [member for member in ready if member.sessions]
            if holders or (ready and time.monotonic() > end_s):
                return self._dice.choice(holders or ready)
            await asyncio.sleep(0.02)

    def _some_proxy(self) -> Proxy:
        return self._dice.choice([*self._proxies, *(member.proxy for member in self._fleet.members)])

    async def _oust(self, member: Member, *, is_planned: bool) -> None:
        self.oustings.append(Ousting(time.monotonic(), is_planned, member.sessions))
        await (self._fleet.leave(member) if is_planned else self._fleet.kill(member))
        await self._fleet.join(self._dice)

    async def _stop(self, member: Member) -> None:
        self._paused.add(member)
        member.signal(signal.SIGSTOP)
        await self._taken_over(member)
        member.signal(signal.SIGCONT)
        await asyncio.sleep(_WAKE_S)
        self._paused.discard(member)

    async def _lose(self, member: Member, begun: Callable[[], None]) -> None:
        member.proxy.reply_to_drop = _WORD
        begun()
        end_s = time.monotonic() + _LIMIT_S
        while member.proxy.reply_to_drop and time.monotonic() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _hold(self, member: Member, begun: Callable[[], None]) -> None:
        self._paused.add(member)
        proxy, before = member.proxy, member.proxy.num_held
        proxy.hold(_COMMIT)
        begun()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LIMIT_S):
                while proxy.num_held == before:  # noqa: ASYNC110  # the proxy knows no waiting
                    await asyncio.sleep(0.005)
        proxy.hold()
        await self._taken_over(member)
        proxy.release()
        await asyncio.sleep(_WAKE_S)
        self._paused.discard(member)

    async def _taken_over(self, member: Member) -> None:
        # Wait until the lease is over and others hold all the member's sessions, up to the limit.
        sessions = member.sessions
        await asyncio.sleep(self._pause_s)
        end_s = time.monotonic() + _LIMIT_S
        while time.monotonic() < end_s:
            if sessions <= {name for other in self._fleet.members if other is not member for name in other.sessions}:
                return
            await asyncio.sleep(0.02)
