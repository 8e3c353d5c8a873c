"""The process that owns the embedded broker: it starts the server, publishes its address, and ends with it.

`worker.io.broker.ensure_broker` holds the broker's lock and runs `python -m worker.io.supervisor --runtime-dir DIR` in
a session of its own, so that a Ctrl-C in a terminal does not end a broker that others use. The process ends on SIGTERM
or SIGINT, when its server ends, or when no client has been connected for the grace period.
"""

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from worker.io.broker import (
    BrokerError,
    BrokerRecord,
    broker_lock,
    forget_record,
    grace_s,
    read_record,
    wanted_kind,
    write_record,
)
from worker.io.servers import BrokerServer, NoServerError, start_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the broker ends; return the exit status: 1, with a reason on standard error, if it did not start."""
    parser = argparse.ArgumentParser(prog="python -m worker.io.supervisor", description="Own the embedded broker.")
    parser.add_argument("--runtime-dir", type=Path, required=True)
    directory = parser.parse_args(arguments).runtime_dir
    # The starter waits only for its own child, which ends here, so that the broker neither blocks it nor is its zombie.
    if os.fork():
        return 0
    signals = _signal_pipe()
    try:
        server = start_server(wanted_kind())
    except (BrokerError, NoServerError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        _announce(directory, server)
        try:
            _watch(directory, server, signals=signals)
        finally:
            _forget_own_record(directory)
    finally:
        server.stop()
    return 0


def _signal_pipe() -> int:
    """Return a descriptor that becomes readable on SIGTERM or SIGINT."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return readable


def _announce(directory: Path, server: BrokerServer) -> None:
    """Write the record, print a copy for the starter, and close its pipe."""
    record = BrokerRecord(url=server.url, pid=os.getpid(), kind=server.kind, version=server.version)
    write_record(directory, record)
    os.write(sys.stdout.fileno(), (directory / "broker.json").read_bytes() + b"\n")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _watch(directory: Path, server: BrokerServer, *, signals: int) -> None:
    """Return when the broker has to end: a signal, a dead server, or no client for the grace period."""
    limit_s = grace_s()
    num_accepted, idle_since_s = -1, time.monotonic()
    try:
        while not select.select([signals], [], [], min(1.0, limit_s / 4))[0]:
            now = server.activity()
            # A client that came and went between two checks shows only in the number accepted.
            if now.num_clients or now.num_accepted != num_accepted:
                num_accepted, idle_since_s = now.num_accepted, time.monotonic()
            elif time.monotonic() - idle_since_s >= limit_s and _ends_unseen(directory, server, num_accepted):
                return
    except OSError as error:
        print(f"the broker ends, because its server or its directory is gone: {error}", file=sys.stderr)


def _ends_unseen(directory: Path, server: BrokerServer, num_accepted: int) -> bool:
    """Delete the record if no new client has come; return whether it did.

    It holds the lock, as `ensure_broker` does: every client that found this broker before has been counted.
    """
    with broker_lock(directory, blocking=False) as held:
        if not held or server.activity().num_accepted != num_accepted:
            return False
        forget_record(directory)
        return True


def _forget_own_record(directory: Path) -> None:
    """Delete the record of this broker, but not that of a successor."""
    try:
        with broker_lock(directory):
            record = read_record(directory)
            if record is not None and record.pid == os.getpid():
                forget_record(directory)
    except FileNotFoundError:  # the directory was deleted first, with the record
        return


if __name__ == "__main__":
    sys.exit(main())
