"""The place where the pages' blocks run: a folder with the commands of this source, beside a serving worker.

There, `decalage` is this source, `redis-cli` speaks to the worker's Redis, and commands that install something (`make`,
`sudo`, `launchctl`) only check their arguments.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.docs.pages import ROOT, Block
from tests.servers import keys_without_ttl
from worker.io.broker import DIR_VARIABLE, KIND_VARIABLE, read_record

LIMIT_S: Final = 120.0
URL_IN_PAGES: Final = "redis://127.0.0.1:6379/0"
GATEWAY_IN_PAGES: Final = "127.0.0.1:8080"

NODE: Final = ("node", "--experimental-websocket", "--experimental-eventsource", "--input-type=module", "-e")
"""Node with a browser's network APIs; from version 20.18 on."""

STARTS: Final = {
    "bash": ("bash", "-euo", "pipefail", "-c"),
    "python": (sys.executable, "-W", "error", "-c"),
    "javascript": NODE,
}

_SHIMS: Final = {
    # A serving worker gets its Ctrl-C as soon as it is ready.
    "decalage": """
import os, signal, subprocess, sys
command = [sys.executable, "-m", "worker", *sys.argv[1:]]
if sys.argv[1] != "serve":
    os.execv(sys.executable, command)
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
    for line in worker.stderr:
        print(line, end="", file=sys.stderr)
        if '"ready"' in line:
            worker.send_signal(signal.SIGINT)
sys.exit(worker.returncode)
""",
    # Sends the arguments to Redis, also without an installed redis-cli.
    "redis-cli": """
import os, shutil, sys
url, real = os.environ["PAGES_REDIS"], shutil.which("redis-cli", path=os.environ["PAGES_PATH"])
if real:
    os.execv(real, [real, "-u", url, *sys.argv[1:]])
import redis
print(redis.Redis.from_url(url).execute_command(*sys.argv[1:]))
""",
    "make": """
import os, pathlib, re, sys
targets = re.findall("^([a-z]+):", pathlib.Path(os.environ["PYTHONPATH"], "Makefile").read_text(), re.MULTILINE)
sys.exit(0 if sys.argv[1] in targets else f"the Makefile has no target {sys.argv[1]}")
""",
    # Does nothing as root, but fails unless the named files and extras exist.
    "sudo": """
import os, pathlib, re, sys, tomllib
root = pathlib.Path(os.environ["PYTHONPATH"])
extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
for argument in sys.argv[2:]:
    named = re.fullmatch(r"[.]\\[(.*)\\]", argument)
    if named and not set(named[1].split(",")) <= set(extras):
        sys.exit(f"there is no extra {named[1]}")
    if argument.startswith("deploy/") or argument.endswith(".lock"):
        (root / argument).stat()
if sys.argv[1] == "tee":
    sys.stdin.read()
""",
    "launchctl": "import sys; sys.exit(0 if sys.argv[1] in ('bootstrap', 'bootout') else 2)",
    "python3": "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
}


class Place(NamedTuple):
    """A folder for blocks to run in, its variables, the URL of the worker's Redis, and host and port of a gateway."""

    folder: Path
    variables: dict[str, str]
    url: str
    gateway: str

    def run(self, block: Block) -> str:
        """Return what the block prints; fail the test unless it ends with 0 in time."""
        program = block.text.replace(URL_IN_PAGES, self.url).replace(GATEWAY_IN_PAGES, self.gateway)
        ran = subprocess.run(
            [*STARTS[block.language], program],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert ran.returncode == 0, f"{program}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


def has_javascript() -> bool:
    """Tell whether there is a Node that can run a page's JavaScript."""
    try:
        return subprocess.run([*NODE, "[EventSource, WebSocket]"], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


@contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Serve on an embedded broker until the block ends; then check that nothing is left, no key without a TTL."""
    variables = _furnished(folder)
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "serve"], cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    ) as worker:
        try:
            url = _url_of(worker)
            with _gateway(url, folder, variables) as gateway:
                yield Place(folder, variables | {"PAGES_REDIS": url}, url, gateway)
            assert not keys_without_ttl(url)
        finally:
            worker.terminate()
            worker.communicate(timeout=LIMIT_S)
            if record := read_record(folder / "runtime"):
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)
    assert worker.returncode == 0


@contextmanager
def _gateway(url: str, folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """Run a gateway for the block; yield its host and port."""
    command = [sys.executable, "-m", "worker", "gateway", "--port", "0", "--redis", url]
    with subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            line = gateway.stderr.readline() if gateway.stderr else ""
            yield line.split()[2].rstrip("/,").removeprefix("http://")
        finally:
            gateway.terminate()
            gateway.communicate(timeout=LIMIT_S)
    assert gateway.returncode == 0


def _furnished(folder: Path) -> dict[str, str]:
    # The commands, a home, and the files that the pages name by their paths from the project's root.
    shims = folder / "bin"
    shims.mkdir()
    for name, program in _SHIMS.items():
        (shims / name).write_text(f"#!{sys.executable}\n{program}")
        (shims / name).chmod(0o755)
    (folder / "home").mkdir()
    (folder / "deploy").symlink_to(ROOT / "deploy")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DECALAGE_")}
    return ours | {
        DIR_VARIABLE: str(folder / "runtime"),
        KIND_VARIABLE: "redis-server",
        "DECALAGE_METRICS_PORT": "0",
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "PAGES_PATH": os.environ["PATH"],
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
    }


def _url_of(worker: "subprocess.Popen[str]") -> str:
    """Return the Redis of a worker once it is ready."""
    said = []
    for line in worker.stderr or ():
        said.append(line)
        if line.startswith("{") and (fact := json.loads(line))["event"] == "ready":
            return str(fact["redis"])
    raise AssertionError("the worker did not start:\n" + "".join(said))
