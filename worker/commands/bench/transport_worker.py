"""The worker process of `decalage bench transport` and `ingest`. Its argument is the URL of a Redis.

It prints `ready`, answers each line on its standard input with its CPU seconds and the numbers of source words taken
and target words published, and exits when its standard input closes.
"""

import asyncio
import sys
import time

from worker.app.config import Settings
from worker.app.serve import serving
from worker.app.worker import Worker
from worker.commands.bench.transport_null import null_engine
from worker.io import logs
from worker.io.metrics import Metrics


async def _serve(url: str) -> None:
    engine, metrics = null_engine(), Metrics()
    worker = Worker(Settings(max_sessions=100_000), engine, metrics, url)
    running = asyncio.create_task(worker.run())
    with serving():
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            counts = [
                metrics.registry.get_sample_value(f"decalage_{side}_words_total") for side in ("source", "target")
            ]
            print(time.process_time(), *(int(count or 0) for count in counts), flush=True)
        worker.stop()
        await running
    engine.stop()


if __name__ == "__main__":
    logs.configure("error")
    asyncio.run(_serve(sys.argv[1]))
