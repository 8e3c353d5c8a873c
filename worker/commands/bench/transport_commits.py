"""The number of commits a second: the script that publishes a word, many sessions in one pipeline."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from protocol import OutputTextDelta, encode, target_key
from protocol.keys import EVENT_FIELD, NUM_SHARDS
from worker.commands.bench.transport_load import connected
from worker.core.replay import Progress, Visible
from worker.core.segment import Decode
from worker.io.checkpoint import Checkpoint
from worker.io.client import connect
from worker.io.index import SessionIndex
from worker.io.store import Claim, Commit, Store

_PER_TURN: Final = 20  # ticks of ours, then as many of the baseline, and so on, so that noise affects both


class Commits(msgspec.Struct, frozen=True):
    """The words published a second by one connection, with `per_tick` sessions in one pipeline."""

    per_tick: int
    commits_per_s: float  # fence, entry, checkpoint, expiry: one script
    xadds_per_s: float  # the entry alone
    redis_us: float  # CPU time of Redis for one commit


async def commit_speed(url: str, per_tick: int, seconds: float) -> Commits:
    """Measure the commits a second for `seconds`."""
    async with connected(url) as redis, connect(url) as ours:
        store, names = Store(ours, "bench", SessionIndex(ours, NUM_SHARDS)), [f"commit-{i}" for i in range(per_tick)]
        opened = await store.open([Claim(name, 1) for name in names])
        epochs = [session[0] for session in opened if not isinstance(session, Exception)]
        ours_s = theirs_s = cpu_s = 0.0
        seq, end_s = 0, time.monotonic() + seconds
        while time.monotonic() < end_s:
            before_s = await redis_cpu_s(redis)
            for _ in range(_PER_TURN):
                seq += 1
                ours_s += await _ours(store, names, epochs, seq)
            cpu_s += await redis_cpu_s(redis) - before_s
            for n in range(seq - _PER_TURN, seq):
                theirs_s += await _theirs(redis, names, n + 1)
    total = seq * per_tick
    return Commits(per_tick, round(total / ours_s), round(total / theirs_s), round(1e6 * cpu_s / total, 1))


async def _ours(store: Store, names: Sequence[str], epochs: Sequence[int], seq: int) -> float:
    point = Checkpoint(status="open", cursor=f"1700000000000-{seq}", source_seq=seq, progress=_progress(seq))
    commits = [
        Commit(name, epoch, (_word(seq),), point, (Visible((3, 4)),)) for name, epoch in zip(names, epochs, strict=True)
    ]
    start_s = time.perf_counter()
    answers = await store.commit(commits)
    spent_s = time.perf_counter() - start_s
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return spent_s


async def _theirs(redis: Redis, names: Sequence[str], seq: int) -> float:
    start_s = time.perf_counter()
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.xadd(target_key(f"plain-{name}"), {EVENT_FIELD: encode(_word(seq))}, id=f"{seq}-0")
    await pipe.execute()
    return time.perf_counter() - start_s


async def redis_cpu_s(redis: Redis) -> float:
    """Return the CPU seconds of Redis since its start."""
    info = await redis.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def _progress(seq: int) -> Progress:
    # The size of a checkpoint in the middle of a sentence of twenty words.
    decode = Decode(14, draft=(1234,), num_computed_source=17, visible_source=(17,), prompt_visible_source=3)
    return Progress(seq=seq, decode=decode, source_words=seq, target_words=seq, created_ms=1_700_000_000_000)


def _word(seq: int) -> OutputTextDelta:
    return OutputTextDelta(
        seq=seq,
        segment=0,
        index=seq,
        word="maison",
        text=" maison",
        tokens=(1234, 567),
        source_words_read=seq,
        elapsed_ms=1234,
        delay_ms=12,
    )
