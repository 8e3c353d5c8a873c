"""The demo's stage: a worker in this process, a speaker at the source of a session, a listener at its target."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from producers.errors import ProducerError
from producers.publisher import Publisher
from producers.subscriber import Subscriber
from protocol import Error, Policy, Session, SessionPhase
from worker.app.config import Settings
from worker.app.engine import Engine
from worker.app.worker import Worker
from worker.commands import demo_view
from worker.commands.demo_report import Place
from worker.commands.demo_view import View
from worker.commands.faults import CommandError
from worker.commands.talk import Words
from worker.core.rows import Vocabulary
from worker.io import client
from worker.io.broker import ensure_broker
from worker.io.health import PortTaken, Probes
from worker.io.metrics import Metrics

PATIENCE_S: Final = 60.0
"""The longest time without a spoken word or an event."""

_BREATH_WORDS: Final = 1
"""The pause of the speaker after a sentence, in the time of a word."""

_CLOSE_S: Final = 1.0


class Plan(msgspec.Struct, frozen=True):
    """The talk and its pace; at 0 words a second, the speaker is as fast as the worker translates."""

    sentences: tuple[Words, ...]
    target_language: str
    policy: Policy | None  # None: the model's
    pace_words_per_s: float
    session_id: str

    @property
    def session(self) -> Session:
        """The options of the session."""
        return Session(target_language=self.target_language, policy=self.policy)


class Stage(msgspec.Struct, frozen=True):
    """A running worker on the broker at `url`."""

    worker: Worker
    metrics: Metrics
    url: str
    vocabulary: Vocabulary

    def check(self, plan: Plan) -> None:
        """Raise Refused if the worker's model does not support the plan's options."""
        self.vocabulary.prompt(plan.session)

    def place(self, plan: Plan, *, is_embedded: bool) -> Place:
        """Return the address and the options of this plan's session."""
        policy = plan.policy or self.vocabulary.default_policy
        return Place(client.shown(self.url), plan.session_id, plan.target_language, policy, is_embedded)

    @property
    def num_forwards(self) -> int | None:
        """Forward passes of this worker; None if another worker served the session."""
        return int(self.metrics.registry.get_sample_value("decalage_forwards_total") or 0) or None


@contextlib.asynccontextmanager
async def open_stage(settings: Settings) -> AsyncIterator[Stage]:
    """Run a worker for the block. Raises RedisUnreachable, BrokerError, and the errors of loading the model.

    Errors come in exception groups, also the one that ends the worker early; `only_error` returns the first.
    """
    async with asyncio.TaskGroup() as group:
        broker = group.create_task(_find_broker(settings))
        loading = group.create_task(Engine.start(settings.model))
    url, engine = broker.result(), loading.result()
    try:
        metrics = Metrics()
        worker = Worker(settings, engine, metrics, url)
        _serve_metrics(worker, settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            try:
                yield Stage(worker, metrics, url, engine.vocabulary)
            finally:
                worker.stop()
    finally:
        engine.stop()


async def _find_broker(settings: Settings) -> str:
    if not settings.redis:
        return (await asyncio.to_thread(ensure_broker)).url
    async with client.connect(settings.redis) as redis:
        await client.check(redis)
    return settings.redis


def _serve_metrics(worker: Worker, settings: Settings) -> None:
    # Another worker may use the port, so fall back to any free one.
    probes = Probes(worker.metrics.registry)
    probes.ask = worker.health.condition
    for port in (settings.metrics_port, 0):
        with contextlib.suppress(PortTaken):
            if port >= 0:
                probes.serve(settings.metrics_host, port)
            return


class Performance:
    """One talk from its first word to the end of its session; `view` holds the words and events so far."""

    def __init__(self, url: str, plan: Plan, on_change: Callable[[View], None] | None = None) -> None:
        """Prepare the talk; `on_change` is called with each new view."""
        self.view = demo_view.begin(plan.sentences)
        self._url = url
        self._plan = plan
        self._on_change = on_change
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Speak the whole talk and hear its translation; ask the session to close even if the talk is cut short.

        Raises CommandError, and the errors of publisher and subscriber, in exception groups.
        """
        plan = self._plan
        async with (
            Publisher(self._url, plan.session_id, plan.session) as publisher,
            Subscriber(self._url, plan.session_id) as subscriber,
        ):
            await publisher.create()
            try:
                await self._perform(publisher, subscriber)
            finally:
                if publisher.phase is SessionPhase.OPEN:
                    with contextlib.suppress(ProducerError, TimeoutError):
                        async with asyncio.timeout(_CLOSE_S):
                            await publisher.close()

    async def _perform(self, publisher: Publisher, subscriber: Subscriber) -> None:
        async with asyncio.TaskGroup() as group:
            watchdog = group.create_task(self._watch_patiently())
            speaker = group.create_task(self._speak(publisher))
            await self._listen(subscriber)
            await speaker
            watchdog.cancel()

    async def _listen(self, subscriber: Subscriber) -> None:
        async for event in subscriber:
            if isinstance(event, Error):
                raise CommandError(f"the worker refused: {event.message}", code=event.code)
            self._set(demo_view.hear(self.view, event, _now_ms()))

    async def _speak(self, publisher: Publisher) -> None:
        beat_s = 1 / self._plan.pace_words_per_s if self._plan.pace_words_per_s else 0.0
        due_s = time.monotonic()
        for index, words in enumerate(self._plan.sentences):
            for word in words:
                await _sleep_until(due_s)
                self._set(demo_view.speak(self.view, index, _now_ms()))
                await publisher.append(word)
                due_s += beat_s
            await publisher.finalize()
            due_s += beat_s * _BREATH_WORDS
            if not beat_s:
                await self._until_done(index)
        await publisher.close()

    async def _until_done(self, index: int) -> None:
        while self.view.sentences[index].done is None:
            self._changed.clear()
            await self._changed.wait()

    async def _watch_patiently(self) -> None:
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._changed.wait()
            except TimeoutError:
                raise CommandError(
                    f"expected a word or an event of session {self._plan.session_id} within {PATIENCE_S:g} s, got "
                    f"none: is Redis at {client.shown(self._url)} still there?",
                    code="no_answer",
                ) from None

    def _set(self, view: View) -> None:
        self.view = view
        self._changed.set()
        if self._on_change is not None:
            self._on_change(view)


async def _sleep_until(due_s: float) -> None:
    await asyncio.sleep(max(0.0, due_s - time.monotonic()))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def only_error(failure: Exception) -> Exception:
    """Return the first error of an exception group, in which task groups wrap every error."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure
