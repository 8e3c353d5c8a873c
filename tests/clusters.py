"""A Redis Cluster of three real servers on loopback, for tests."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import redis

from worker.io.servers import HOST, free_port

_READY_LIMIT_S: Final = 30.0
_SLOTS: Final = 16_384
_NUM_NODES: Final = 3


@contextmanager
def running_cluster(path: Path) -> Iterator[str]:
    """Run a cluster of three processes of this redis-server, each with a third of the slots; yield its URL."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(_node(path)) for _ in range(_NUM_NODES)]
        form(nodes)
        yield f"redis+cluster://{HOST}:{nodes[0][0]}/0"


def form(nodes: Sequence[tuple[int, int]]) -> None:
    """Form a cluster of the empty servers at these ports, each given with its bus port, and share the slots out."""
    with ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis(host=HOST, port=port, decode_responses=True)) for port, _ in nodes]
        for i, client in enumerate(clients):
            _until_it_answers(client)
            first, last = _SLOTS * i // len(nodes), _SLOTS * (i + 1) // len(nodes) - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
        for port, bus_port in nodes[1:]:
            clients[0].execute_command("CLUSTER MEET", HOST, port, bus_port)
        for client in clients:
            _until_whole(client, len(nodes))


@contextmanager
def _node(path: Path) -> Iterator[tuple[int, int]]:
    port, bus_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="decalage-cluster-") as directory:
        options = {
            **{"bind": HOST, "port": str(port), "dir": directory, "save": "", "loglevel": "warning"},
            **{"cluster-enabled": "yes", "cluster-port": str(bus_port), "cluster-node-timeout": "5000"},
        }
        command = [str(path), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                yield port, bus_port
            finally:
                process.terminate()


def _until_it_answers(client: redis.Redis) -> None:
    deadline_s = time.monotonic() + _READY_LIMIT_S
    while True:
        try:
            client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > deadline_s:
                raise


def _until_whole(client: redis.Redis, num_nodes: int) -> None:
    deadline_s = time.monotonic() + _READY_LIMIT_S
    while (facts := client.cluster("INFO"))["cluster_state"] != "ok" or int(facts["cluster_known_nodes"]) != num_nodes:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the cluster was not ready within {_READY_LIMIT_S:g} s: {facts}")
        time.sleep(0.02)
