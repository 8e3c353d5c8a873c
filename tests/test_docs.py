"""The README is true: its code blocks run, its tables are those of the code, its links lead somewhere.

A `bash` block runs in bash, in a folder of its own, beside a worker on an embedded, real redis-server. There,
`decalage` is this source, `redis-cli` speaks to that server, and `make` only looks its target up. A `python` block runs
as a program. A `text` block right behind either is what it prints.
"""

import argparse
import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import msgspec
import pytest
import redis

from protocol import ClientEvent, ServerEvent, Session, WaitK, diagram, keys, wire_type
from protocol.errors import REMEDIES
from tests.servers import keys_without_ttl
from worker.app.config import Settings
from worker.commands import serve
from worker.io.broker import DIR_VARIABLE, KIND_VARIABLE, read_record
from worker.io.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
LIMIT_S: Final = 60.0
URL_IN_README: Final = "redis://127.0.0.1:6379/0"

_SHIMS: Final = {
    # A worker that serves gets its Ctrl-C as soon as it is ready.
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
    # Where there is no redis-cli, its arguments are sent all the same.
    "redis-cli": """
import os, shutil, sys
url, real = os.environ["README_REDIS"], shutil.which("redis-cli", path=os.environ["README_PATH"])
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
    "python3": "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
}


class Block(NamedTuple):
    """A fenced block, and what a `text` block right behind it says that it prints."""

    language: str
    text: str
    output: str | None


class Place(NamedTuple):
    """Where blocks run: a folder, the variables there, and the URL of the Redis that a worker serves."""

    folder: Path
    variables: dict[str, str]
    url: str

    def run(self, block: Block) -> str:
        """What the block prints; fails the test unless it ends with 0 in time."""
        program = block.text.replace(URL_IN_README, self.url)
        start = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable, "-W", "error"]
        ran = subprocess.run(
            [*start, "-c", program],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert ran.returncode == 0, f"{program}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


def blocks() -> list[Block]:
    """All fenced blocks of the README, in order."""
    fence = r"^```(\w*)\n(.*?)^```$\n(?:\s*^```text\n(.*?)^```$)?"
    return [Block(*found.groups()) for found in re.finditer(fence, README, re.MULTILINE | re.DOTALL)]


BLOCKS: Final = blocks()
RUNNING: Final = [block for block in BLOCKS if block.language in ("bash", "python")]
BY_HAND: Final = next(block for block in RUNNING if "redis-cli" in block.text)


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title, as cells; backticks around a whole cell are gone."""
    _, _, rest = README.partition(f"\n| {first} |")
    lines = rest.splitlines()[2:]
    end = next(index for index, line in enumerate(lines) if not line.startswith("|"))
    return [[re.sub("^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")] for line in lines[:end]]


def links() -> list[tuple[str, str]]:
    """Text and target of every link to a file, or to a heading, of this project."""
    return [(text, to) for text, to in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", README) if "://" not in to]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder whose commands are this source's, and a worker on an embedded broker; both end with the module."""
    folder = tmp_path_factory.mktemp("readme")
    shims = folder / "bin"
    shims.mkdir()
    for name, program in _SHIMS.items():
        (shims / name).write_text(f"#!{sys.executable}\n{program}")
        (shims / name).chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DECALAGE_")}
    variables = ours | {
        DIR_VARIABLE: str(folder / "runtime"),
        KIND_VARIABLE: "redis-server",
        "DECALAGE_METRICS_PORT": "0",
        "PYTHONPATH": str(ROOT),
        "README_PATH": os.environ["PATH"],
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "serve"], cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    ) as worker:
        try:
            url = _url_of(worker)
            yield Place(folder, variables | {"README_REDIS": url}, url)
            assert not keys_without_ttl(url)
        finally:
            worker.terminate()
            worker.communicate(timeout=LIMIT_S)
            if record := read_record(folder / "runtime"):
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)
    assert worker.returncode == 0


def _url_of(worker: "subprocess.Popen[str]") -> str:
    """The Redis of a worker, once it is ready."""
    said = []
    for line in worker.stderr or ():
        said.append(line)
        if line.startswith("{") and (fact := json.loads(line))["event"] == "ready":
            return str(fact["redis"])
    pytest.fail("the worker did not start:\n" + "".join(said))


def test_a_session_by_hand(place: Place) -> None:
    """The redis-cli lines alone make a session: their words come out, the session closes, nothing is refused."""
    place.run(BY_HAND)
    events: list[dict[str, Any]] = []
    with redis.Redis.from_url(place.url, protocol=2, socket_timeout=LIMIT_S) as client:
        last = b"0"
        while not events or events[-1]["type"] != "session.closed":
            answer: Any = client.xread({keys.target_key("raw-1"): last}, block=10_000)
            assert answer, f"no session.closed after {events}"
            last = answer[0][1][-1][0]
            events += [json.loads(fields[b"event"]) for _, fields in answer[0][1]]
    assert [event for event in events if event["type"] == "error"] == []
    assert events[-2]["text"] == " ".join(word for _, word in traced())
    assert f"XADD '{keys.bell_key(keys.shard_of('raw-1'))}'" in README


@pytest.mark.parametrize(
    "block", [block for block in RUNNING if block is not BY_HAND], ids=lambda block: block.language
)
def test_a_code_block_runs(place: Place, block: Block) -> None:
    """It ends without an error, and prints what stands below it."""
    printed = place.run(block)
    assert block.output is None or printed.rstrip() == block.output.rstrip()


def test_every_block_has_a_language_that_is_looked_after() -> None:
    """Whatever can be run is run: no block hides behind another name."""
    assert {block.language for block in BLOCKS} == {"bash", "python", "text", "mermaid"}


def traced() -> list[tuple[int, str]]:
    """Words read and word, for each target word of the trace at the top."""
    rows = [re.split(r" {2,}", line.strip()) for line in BLOCKS[0].text.splitlines()[1:]]
    return [(int(row[2]), word) for row in rows if len(row) == 5 for word in row[4].split()]


def test_the_trace_is_real() -> None:
    """It shows what the Python example prints, which is compared with what it prints."""
    example = next(block for block in RUNNING if "stream_generate_streaming_llm" in block.text)
    shown = re.findall(r"(\d+) (\S+)", example.output or "")
    assert [(str(read), word) for read, word in traced()] == shown
    assert len(BLOCKS[0].text.splitlines()) == 8


@pytest.mark.parametrize(("title", "union"), [("client event", ClientEvent), ("server event", ServerEvent)])
def test_events(title: str, union: Any) -> None:
    """The table has all events and all their fields."""
    shown = {row[0]: set(re.findall(r"`?(\w+)`?", row[1])) for row in table(title)}
    assert shown == {wire_type(event): set(event.__struct_fields__) for event in get_args(union)}


def test_error_codes() -> None:
    """The table has all codes with their remedies."""
    assert {row[0]: row[1] for row in table("error code")} == {code.value: text for code, text in REMEDIES.items()}


def test_keys() -> None:
    """The table has all keys, by the names that the code gives them."""
    of_session = {key("ID") for key in (keys.source_key, keys.target_key, keys.state_key)}
    of_shard = {key(0).replace("0", "N") for key in (keys.bell_key, keys.lease_key, keys.index_key)}
    of_workers = {keys.CONFIGURE_KEY, keys.STATS_KEY, keys.LIVE_KEY, keys.FREED_KEY, keys.SHARDS_KEY, keys.DEAD_KEY}
    of_workers.add(keys.HEARD_KEY)
    assert {row[0] for row in table("key")} == of_session | of_shard | of_workers
    assert f"crc32(ID) mod {keys.NUM_SHARDS}" in README


def test_the_order_of_events() -> None:
    """The diagram is the one that the table of the code draws."""
    assert diagram() in [block.text for block in BLOCKS if block.language == "mermaid"]


def test_settings() -> None:
    """The table has all settings of a worker with their defaults and their options, and no variable is left out."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    options = {action.dest: action.option_strings[-1] for action in parser._actions}
    rows = {row[0]: row[1:3] for row in table("variable")}
    for field in msgspec.structs.fields(Settings):
        default, option = rows.pop(f"DECALAGE_{field.name.upper()}")
        assert (json.loads(default), option.strip("`")) == (field.default, options.get(field.name, ""))
    sources = [path.read_text() for name in ("producers", "worker") for path in (ROOT / name).rglob("*.py")]
    known = {variable for source in sources for variable in re.findall(r"\bDECALAGE_[A-Z_]*[A-Z]\b", source)}
    assert set(rows) == known - {f"DECALAGE_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}


def test_session_options() -> None:
    """The table has all options of a session with their defaults."""
    expected: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(Session()).items():
        inner = {} if not isinstance(value, dict) else {f"{name}.{key}": part for key, part in value.items()}
        expected |= inner or {name: value}
    assert expected.pop("policy.type") == msgspec.to_builtins(WaitK())["type"]
    assert {row[0]: json.loads(row[1]) for row in table("option")} == expected


def test_metrics() -> None:
    """The page names all metrics, as Prometheus sees them, and none that is not there."""
    families = Metrics().registry.collect()
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    shown = [set(re.findall(r"decalage_\w+", row[1])) for row in table("about")]
    assert set().union(*shown) == exposed
    assert f"127.0.0.1:{Settings().metrics_port}/metrics" in README


def test_links_lead_somewhere() -> None:
    """Every relative link names a file, a folder or a heading that is there."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    broken = [to for _, to in links() if (to[1:] not in anchors if to[0] == "#" else not (ROOT / to).exists())]
    assert links()
    assert not broken


def test_what_a_link_names_is_defined_there() -> None:
    """A name in code style that links to a module is a function, class or method of that module."""
    named = [(text.strip("`"), to) for text, to in links() if text.startswith("`") and to.endswith(".py")]
    assert len(named) >= 8
    assert [(name, to) for name, to in named if name not in _defined(ROOT / to)] == []


def _defined(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            methods = getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []
            found |= {node.name} | {f"{node.name}.{method.name}" for method in methods if hasattr(method, "name")}
    return found


def test_the_map_has_every_package() -> None:
    """Each folder with modules is on the map of the files."""
    modules = (path for name in ("protocol", "producers", "worker") for path in (ROOT / name).rglob("*.py"))
    folders = {str(path.parent.relative_to(ROOT)) for path in modules}
    assert folders - {"worker"} <= {to for _, to in links()}


def test_scores_are_those_of_the_model() -> None:
    """The page quotes only what the shipped model's own page states."""
    _, _, models = README.partition("\n## Models\n")
    quoted = re.findall(r"\b\d+\.\d\b", models.partition("`--model` takes")[0])
    own = (ROOT / "worker" / "models" / "starter" / "README.md").read_text()
    assert quoted
    assert [score for score in quoted if score not in own] == []


def test_the_test_command() -> None:
    """The README's test command is the one that continuous integration runs."""
    assert "`make test` is the test command" in README
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
