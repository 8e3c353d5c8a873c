"""The lease machine against every interleaving that hypothesis finds: slow, paused, dying workers, lost and late
replies, a Redis whose clock jumps. What the Lua scripts do is spelled out here in Python; the rest is the real code.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.core import leases as rules
from worker.core.leases import Lease, Peer, Tenure

SHARDS, TTL_MS = 3, 400
NAMES = ("a", "b", "c")


class Redis:
    """The scripts `leases`, `open` and `commit` on one clock; one session a shard."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.signs: dict[str, tuple[int, Peer]] = {}
        self.leases = [("", 0, 0)] * SHARDS  # owner, epoch, until
        self.sessions = [(0, 0)] * SHARDS  # lease and epoch of the last open
        self.commits: list[tuple[int, int]] = []  # shard, epoch

    def exchange(self, me: str, about: Peer | None, hold: frozenset[int], give: frozenset[int]) -> tuple[Lease, ...]:
        """`leases.lua`."""
        self.signs.pop(me, None)
        if about:
            self.signs[me] = (self.now_ms + TTL_MS, about)
        self.signs = {
            name: (min(until_ms, self.now_ms + TTL_MS), peer)
            for name, (until_ms, peer) in self.signs.items()
            if until_ms > self.now_ms
        }
        for shard, (owner, epoch, until_ms) in enumerate(self.leases):
            until_ms = min(until_ms, self.now_ms + TTL_MS)
            if shard in hold and (owner in ("", me) or until_ms <= self.now_ms):
                epoch = epoch if owner == me else max(epoch + 1, self.now_ms)
                owner, until_ms = me, self.now_ms + TTL_MS
            elif shard in give and owner == me:
                owner, until_ms = "", 0
            self.leases[shard] = (owner, epoch, until_ms)
        return tuple(Lease(owner, epoch, max(0, until_ms - self.now_ms)) for owner, epoch, until_ms in self.leases)

    def open(self, shard: int, lease: int) -> int | None:
        """`open.lua`: the session's new epoch; None: stale."""
        last_lease, last_epoch = self.sessions[shard]
        if last_lease > lease:
            return None
        assert lease >= last_lease, "law: a session is never taken under an earlier lease than its last one"
        self.sessions[shard] = (lease, max(last_epoch + 1, lease))
        return self.sessions[shard][1]

    def commit(self, shard: int, epoch: int) -> bool:
        """`commit.lua`: whether it was published."""
        is_good = self.sessions[shard][1] == epoch
        if is_good:
            self.commits.append((shard, epoch))
        return is_good


class Ask(NamedTuple):
    """A request on its way."""

    hold: frozenset[int]
    asked_ms: int
    peer: Peer


class Worker:
    """The shell around the rules, a step at a time, as `worker.app.shards` runs them."""

    def __init__(self, name: str, weight: int) -> None:
        self.name = name
        self.peer = Peer(weight)
        self.held: dict[int, Tenure] = {}
        self.open: dict[int, int] = {}  # epochs of the sessions that are held
        self.asks: list[Ask] = []
        self.reply: tuple[Ask, tuple[Lease, ...]] | None = None  # on its way back
        self.moved_ms = -10 * TTL_MS
        self.num_moves = 0
        self.is_paused = False

    def holds(self, shard: int, now_ms: int) -> bool:
        """Whether it may publish, by its own clock."""
        return shard in self.held and now_ms < self.held[shard].until_ms

    def ask(self, now_ms: int, more: frozenset[int] = frozenset()) -> None:
        """A look, or a look with taking."""
        self.asks.append(Ask(frozenset(self.held) | more, now_ms, self.peer))

    def hear(self, redis: Redis, ask: Ask, leases: tuple[Lease, ...], now_ms: int) -> rules.Decision:
        """The answer has come."""
        before = self.held
        answers = {shard: leases[shard] for shard in ask.hold}
        self.held = rules.learn(self.held, self.name, answers, asked_ms=ask.asked_ms, ttl_ms=TTL_MS)
        for shard in rules.lost(before, self.held):
            self.open.pop(shard, None)
        peers = {name: peer for name, (_, peer) in redis.signs.items()}
        settled = now_ms - self.moved_ms >= TTL_MS
        return rules.decide(self.name, peers, leases, self.held, is_settled=settled)

    def forget(self, shards: tuple[int, ...]) -> None:
        """Before they are given back."""
        for shard in shards:
            self.open.pop(shard, None)
            self.held.pop(shard, None)


class Cluster(RuleBasedStateMachine):
    """Workers that come, go, sleep and lose replies."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis()
        self.now_ms = 0  # every worker's monotonic clock
        self.workers: dict[str, Worker] = {}
        self.ghosts: list[Callable[[], object]] = []  # requests that arrive late, from living and dead workers
        self.has_jumps = False

    @initialize(has_jumps=st.booleans())
    def begin(self, has_jumps: bool) -> None:
        self.has_jumps = has_jumps
        self.join("a", 10)
        self.join("b", 10)
        self.everybody_looks()

    @rule(name=st.sampled_from(NAMES), weight=st.integers(1, 30))
    def join(self, name: str, weight: int) -> None:
        self.workers.setdefault(name, Worker(name, weight))

    @precondition(lambda self: len(self.workers) > 1)
    @rule(name=st.sampled_from(NAMES), is_killed=st.booleans())
    def leave(self, name: str, is_killed: bool) -> None:
        worker = self.workers.pop(name, None)
        if worker and not is_killed and not worker.is_paused:
            self.redis.exchange(f"{name}", None, frozenset(), frozenset(worker.held))

    @rule(ms=st.integers(1, TTL_MS * 2))
    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.redis.now_ms += ms

    @precondition(lambda self: self.has_jumps)
    @rule(ms=st.integers(-3 * TTL_MS, 3 * TTL_MS))
    def jump(self, ms: int) -> None:
        """Redis's clock is set."""
        self.redis.now_ms += ms

    @rule(name=st.sampled_from(NAMES), ms=st.integers(TTL_MS // 2, 2 * TTL_MS))
    def sleep_through(self, name: str, ms: int) -> None:
        """A worker stands still, perhaps for longer than its leases, while the others go on."""
        self.pause(name, True)
        for _ in range(2):
            self.wait(ms // 2)
            self.everybody_looks()
        self.take_sessions(is_late=False)
        self.publish(is_late=False)
        self.pause(name, False)

    @rule(name=st.sampled_from(NAMES), is_paused=st.booleans())
    def pause(self, name: str, is_paused: bool) -> None:
        if name in self.workers:
            self.workers[name].is_paused = is_paused

    @rule(name=st.sampled_from(NAMES))
    def look(self, name: str) -> None:
        """A request is sent; when it arrives, and whether the answer does, others decide."""
        worker = self.workers.get(name)
        if worker and not worker.is_paused and not worker.asks and not worker.reply:
            worker.ask(self.now_ms)

    @rule(name=st.sampled_from(NAMES), fate=st.sampled_from(["heard", "slow", "reply lost", "lost", "late"]))
    def arrive(self, name: str, fate: str) -> None:
        """What was sent reaches Redis, or does not, or does when nobody counts with it any more."""
        worker = self.workers.get(name)
        if not worker or not worker.asks:
            return
        ask = worker.asks.pop(0)
        send = partial(self.redis.exchange, name, ask.peer, ask.hold, frozenset())
        if fate == "late":
            self.ghosts.append(send)
        if fate in ("lost", "late"):
            return
        leases = send()
        if fate == "slow":
            worker.reply = (ask, leases)
        if fate == "heard" and not worker.is_paused:
            self._act(worker, worker.hear(self.redis, ask, leases, self.now_ms))

    @rule(name=st.sampled_from(NAMES))
    def hear(self, name: str) -> None:
        """A slow reply is read."""
        worker = self.workers.get(name)
        if worker and worker.reply and not worker.is_paused:
            ask, leases = worker.reply
            worker.reply = None
            self._act(worker, worker.hear(self.redis, ask, leases, self.now_ms))

    def _act(self, worker: Worker, decision: rules.Decision) -> None:
        if decision.take:
            worker.ask(self.now_ms, frozenset(decision.take))
        if decision.give:
            worker.forget(decision.give)
            worker.moved_ms = self.now_ms
            worker.num_moves += len(decision.give)
            self.redis.exchange(worker.name, worker.peer, frozenset(), frozenset(decision.give))

    @precondition(lambda self: self.ghosts)
    @rule(number=st.integers(0, 9))
    def haunt(self, number: int) -> None:
        """A late request arrives after all."""
        self.ghosts.pop(number % len(self.ghosts))()

    @rule()
    def everybody_looks(self) -> None:
        """As it mostly is: everything arrives at once."""
        for worker in self._awake():
            self.look(worker.name)
            while worker.asks:
                self.arrive(worker.name, "heard")

    @rule(is_late=st.booleans())
    def take_sessions(self, is_late: bool) -> None:
        """Every session is taken that a worker believes to be its own."""
        for worker in self._awake():
            for shard in set(worker.held) - set(worker.open):
                if worker.holds(shard, self.now_ms):
                    self._send(partial(self._take, worker, shard, worker.held[shard]), is_late=is_late)

    def _take(self, worker: Worker, shard: int, tenure: Tenure) -> None:
        epoch = self.redis.open(shard, tenure.epoch)
        if epoch and worker.held.get(shard) == tenure:
            worker.open[shard] = epoch

    @rule(is_late=st.booleans())
    def publish(self, is_late: bool) -> None:
        """Every session gets a word from everybody who believes to own it."""
        for worker in self._awake():
            for shard, epoch in list(worker.open.items()):
                if worker.holds(shard, self.now_ms):
                    self._send(partial(self._publish, worker, shard, epoch), is_late=is_late)

    def _publish(self, worker: Worker, shard: int, epoch: int) -> None:
        if not self.redis.commit(shard, epoch):
            worker.forget((shard,))

    def _send(self, command: Callable[[], object], *, is_late: bool) -> None:
        if is_late:
            self.ghosts.append(command)
        else:
            command()

    def _awake(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if not worker.is_paused]

    @invariant()
    def one_holder(self) -> None:
        """Law: while Redis's clock runs evenly, no two workers hold a shard at one time, by their own clocks."""
        if not self.has_jumps:
            for shard in range(SHARDS):
                assert sum(worker.holds(shard, self.now_ms) for worker in self.workers.values()) <= 1

    @invariant()
    def one_publisher(self) -> None:
        """Law, whatever any clock does: no two open sessions have one epoch, and what is published for a session has
        epochs that only rise: once a new owner has published, the old one never does.
        """
        for shard in range(SHARDS):
            epochs = [worker.open[shard] for worker in self.workers.values() if shard in worker.open]
            assert len(set(epochs)) == len(epochs)
            published = [epoch for other, epoch in self.redis.commits if other == shard]
            assert published == sorted(published)

    def teardown(self) -> None:
        """Law: once trouble ends, every shard has an owner within two terms of a lease, and soon nothing moves."""
        self.ghosts.clear()
        if not self.workers:
            return
        for worker in self.workers.values():
            worker.is_paused = False
            worker.asks.clear()
            worker.reply = None
            worker.num_moves = 0
        self._run_fairly(2 * TTL_MS)
        assert all(left for _, _, left in self._owned()), self._owned()
        self._run_fairly(12 * TTL_MS)
        moves = sum(worker.num_moves for worker in self.workers.values())
        assert moves <= 2 * SHARDS
        self._run_fairly(6 * TTL_MS)
        assert sum(worker.num_moves for worker in self.workers.values()) == moves
        self._check_shares()

    def _owned(self) -> list[tuple[int, str, bool]]:
        now_ms = self.redis.now_ms
        return [
            (i, owner, owner in self.workers and until > now_ms)
            for i, (owner, _, until) in enumerate(self.redis.leases)
        ]

    def _check_shares(self) -> None:
        peers = {name: worker.peer for name, worker in self.workers.items()}
        for name, worker in self.workers.items():
            assert abs(len(worker.held) - rules.share(name, peers, SHARDS)) < len(peers)

    def _run_fairly(self, ms: int) -> None:
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            for worker in self.workers.values():
                worker.ask(self.now_ms)
                while worker.asks:
                    self.arrive(worker.name, "heard")
            self.wait(TTL_MS // 4)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
