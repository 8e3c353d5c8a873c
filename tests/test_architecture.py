"""The rings: imports point inward only, and nothing grows beyond what one can hold in mind.

    producers -> protocol <- worker.core <- {worker.engine, worker.io} <- worker.app

Read from the source by AST, so an import inside a function or under TYPE_CHECKING counts like any other for the rings.
"""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("protocol", "producers", "worker")
MAX_MODULE_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 40


class Ring(NamedTuple):
    """The imports allowed to the modules of one ring, besides the standard library and their own ring."""

    inward: frozenset[str] = frozenset()
    """Other rings; "*" is all of them."""
    foreign: frozenset[str] = frozenset()
    """Packages of others; "*" is all of them."""
    banned: frozenset[str] = frozenset()
    """Modules that are forbidden although the rules above allow them."""


def _ring(inward: str = "", foreign: str = "", banned: str = "") -> Ring:
    return Ring(frozenset(inward.split()), frozenset(foreign.split()), frozenset(banned.split()))


_MODEL_PACKAGES: Final = "gguf huggingface_hub jinja2 mlx mlx_lm msgspec numpy safetensors tokenizers transformers"
_STUDY: Final = "protocol worker.core worker.engine"

RINGS: Final = {
    "protocol": _ring(foreign="msgspec"),
    "producers": _ring("protocol producers.async_client producers.client", "msgspec redis"),
    "producers.async_client": _ring("protocol producers", "websockets"),
    "producers.client": _ring("protocol producers producers.async_client"),
    "producers.gateway": _ring(
        "protocol producers", "h11 msgspec prometheus_client redis starlette uvicorn websockets"
    ),
    # No clock, chance, log or waiting: the core's decisions depend on its arguments alone.
    "worker.core": _ring("protocol", "msgspec", "asyncio datetime logging random secrets threading time uuid"),
    "worker.engine": _ring("protocol worker.core", _MODEL_PACKAGES, "protocol.keys"),
    "worker.io": _ring("protocol worker.core", "fakeredis hiredis msgspec prometheus_client redis structlog"),
    "worker.library": _ring(_STUDY, _MODEL_PACKAGES, "protocol.keys"),
    "worker.evaluation": _ring(
        f"{_STUDY} worker.library", f"{_MODEL_PACKAGES} matplotlib sacrebleu simuleval", "protocol.keys"
    ),
    "worker.training": _ring(
        f"{_STUDY} worker.library", f"{_MODEL_PACKAGES} matplotlib sacrebleu torch", "protocol.keys"
    ),
    "worker.app": _ring("protocol worker.core worker.engine worker.io worker.library", "*"),
    # The outermost shells.
    "worker.commands": _ring("*", "*"),
    "worker.cli": _ring("*", "*"),
    "worker.__main__": _ring("*", "*"),
    "worker": _ring("*", "*"),
    "worker.speculative_decoding": _ring("*"),
    "worker.continuous_batching": _ring("*"),
}

LAZY: Final = frozenset({"worker", "worker.cli"})
"""Modules that every program loads: they import only the standard library until used."""


class Import(NamedTuple):
    """One imported module, and where."""

    name: str
    line: int
    is_eager: bool
    """Whether the import runs when the importing module is loaded."""


def modules() -> dict[str, Path]:
    """Return every module of the packages by its dotted name; a package has the name of its folder."""
    paths = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES: Final = modules()


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yield the source's imports, relative names resolved; `from package import submodule` names the submodule."""
    tree = ast.parse(source)
    deferred = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_type_checkers(block)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(node, module, is_package=is_package)
            names = [f"{base}.{alias.name}" if _is_module(f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(names):
            yield Import(name, node.lineno, is_eager=id(node) not in deferred)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _resolve(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _is_module(name: str) -> bool:
    return name in MODULES or any(name == banned for ring in RINGS.values() for banned in ring.banned)


def ring_of(module: str) -> str | None:
    """Return the name of the module's ring: the longest that fits."""
    exact = module if module in RINGS else None
    fitting = [name for name in RINGS if name != "worker" and module.startswith(f"{name}.")]
    return exact or max(fitting, key=len, default=None)


def outward(module: str, imported: Import) -> str | None:
    """Return why this import is not allowed; None: it is."""
    own = ring_of(module)
    if own is None:
        return "belongs to no ring: name its ring in RINGS"
    ring, top_level = RINGS[own], imported.name.partition(".")[0]
    if any(imported.name == banned or imported.name.startswith(f"{banned}.") for banned in ring.banned):
        return f"{own} never imports {imported.name}"
    if top_level in PACKAGES:
        if module in LAZY and imported.is_eager:
            return f"{module} imports {imported.name} only inside functions"
        other = ring_of(imported.name)
        allowed = other == own or "*" in ring.inward or other in ring.inward
        return None if allowed else f"{own} never imports {other or imported.name}"
    if top_level in sys.stdlib_module_names:
        return None
    if module in LAZY and imported.is_eager:
        return f"{module} imports {top_level} only inside functions"
    return None if "*" in ring.foreign or top_level in ring.foreign else f"{own} never imports {top_level}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inward(module: str) -> None:
    """No module imports from a ring outside its own, nor a library that is not its ring's business."""
    path = MODULES[module]
    found = [
        f"{path.relative_to(ROOT)}:{imported.line}: imports {imported.name}, but {reason}"
        for imported in imports(path.read_text(), module, is_package=path.name == "__init__.py")
        if (reason := outward(module, imported))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "is_allowed"),
    [
        ("protocol.events", "import msgspec, json", True),
        ("protocol.events", "import redis", False),
        ("protocol.events", "from worker.core import session", False),
        ("producers.publish", "from protocol.keys import source_key\nimport redis.asyncio", True),
        ("producers.publish", "def lazy():\n    import worker", False),
        ("producers.publish", "import mlx.core", False),
        ("producers.publish", "from producers.gateway import app", False),
        ("producers.publish", "import starlette", False),
        ("producers.gateway.app", "from producers.publisher import Publisher\nimport starlette", True),
        ("producers.gateway.app", "import mlx.core", False),
        ("producers.gateway.app", "from worker.io import broker", False),
        ("worker.core.session", "from protocol import events", True),
        ("worker.core.session", "from time import monotonic", False),
        ("worker.core.session", "from ..io import broker", False),
        ("worker.core.session", "from . import words", True),
        ("worker.engine.model", "import mlx.core as mx\nfrom worker.core import words", True),
        ("worker.engine.model", "from protocol import keys", False),
        ("worker.engine.model", "from protocol.keys import source_key", False),
        ("worker.engine.model", "from worker.io.broker import ensure_broker", False),
        ("worker.io.broker", "from worker.engine import model", False),
        ("worker.io.broker", "import mlx_lm", False),
        ("worker.io.broker", "from worker import load", False),
        ("worker.training.loop", "import redis", False),
        ("worker.app.worker", "from worker.io import broker\nfrom worker.engine import model\nimport redis", True),
        ("worker.app.worker", "from worker.commands import serve", False),
        ("worker.cli", "def main():\n    import rich\n    from worker.app import worker", True),
        ("worker.cli", "import rich", False),
        ("worker.cli", "from worker.app import worker", False),
        ("worker.strange", "import json", False),
    ],
)
def test_the_rule_itself(module: str, source: str, is_allowed: bool) -> None:
    """An arrow that points outward is seen in every form of import, and one that points inward is let through."""
    assert all(outward(module, imported) is None for imported in imports(source, module)) is is_allowed


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""

    def reach(module: str) -> set[str]:
        reached, left = set[str](), [module]
        while left:
            news = set(graph.get(left.pop(), ())) - reached
            reached |= news
            left += news
        return reached

    reached = {module: reach(module) for module in graph}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph}
    return [sorted(group) for group in groups if group]


def test_no_circle_of_imports() -> None:
    """No module loads, by whatever way, a module that loads it."""
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [["b", "c"]]
    graph = {
        module: {
            imported.name
            for imported in imports(path.read_text(), module, is_package=path.name == "__init__.py")
            if imported.is_eager and imported.name in MODULES
        }
        for module, path in MODULES.items()
    }
    assert circles(graph) == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_too_long(module: str) -> None:
    """A module has at most 300 lines, and a function at most 40."""
    path = MODULES[module]
    source = path.read_text()
    name, num_lines = path.relative_to(ROOT), len(source.splitlines())
    found = [f"{name}: {num_lines} lines, at most {MAX_MODULE_LINES}"] if num_lines > MAX_MODULE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                found.append(f"{name}:{node.lineno}: {node.name} has {num_lines} lines, at most {MAX_FUNCTION_LINES}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("protocol", {"mlx", "mlx_lm", "redis", "structlog", "worker"}),
        ("producers", {"mlx", "mlx_lm", "starlette", "structlog", "websockets", "worker"}),
        ("producers.gateway.server", {"mlx", "mlx_lm", "worker"}),
        ("worker", {"mlx", "mlx_lm", "redis", "rich"}),
        ("worker.cli", {"mlx", "mlx_lm", "redis", "rich"}),
        ("worker.io.broker", {"mlx", "mlx_lm", "fakeredis"}),
    ],
)
def test_importing_it_is_cheap(package: str, unwanted: set[str]) -> None:
    """In a fresh interpreter, loading this does not bring in what only some of its users need."""
    program = f"import {package}, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not unwanted & set(loaded.stdout.split())
