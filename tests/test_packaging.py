"""What is installed: `pyproject.toml` names only what is there, and the light install is what a producer imports."""

import ast
import re
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from worker.commands.faults import EXTRAS

ROOT: Final = Path(__file__).resolve().parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DATA: Final = PROJECT["tool"]["setuptools"]["package-data"]
OPTIONAL: Final = PROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    ("package", "pattern"), [(package, pattern) for package, patterns in DATA.items() for pattern in patterns]
)
def test_package_data_is_there(package: str, pattern: str) -> None:
    """Each pattern matches files, in every package that it is meant for."""
    folders = ("protocol", "producers", "worker") if package == "*" else (package,)
    assert all(any(path.is_file() for path in (ROOT / folder).glob(pattern)) for folder in folders)


def test_every_file_beside_the_modules_is_package_data() -> None:
    """A file that a module reads is installed with it; pages for people need not be."""
    installed = {
        path for package, patterns in DATA.items() for pattern in patterns for path in _matched(package, pattern)
    }
    beside = {
        path for name in ("protocol", "producers", "worker") for path in (ROOT / name).rglob("*") if path.is_file()
    }
    others = {path for path in beside - installed if path.suffix not in (".py", ".pyc", ".md", ".svg")}
    assert others == set()


def _matched(package: str, pattern: str) -> set[Path]:
    folders = ("protocol", "producers", "worker") if package == "*" else (package,)
    return {path for folder in folders for path in (ROOT / folder).glob(pattern)}


def test_the_light_install_is_what_a_producer_imports() -> None:
    """The required packages are those that `protocol` and `producers` import, and no more; the gateway has an extra."""
    paths = [path for name in ("protocol", "producers") for path in (ROOT / name).rglob("*.py")]
    gateway, client = ROOT / "producers" / "gateway", ROOT / "producers" / "async_client.py"
    ours = {"protocol", "producers", *sys.stdlib_module_names}
    light = [path for path in paths if gateway not in path.parents and path != client]
    imported = {name for path in light for name in _imported(path)} - ours
    assert {_name(requirement) for requirement in PROJECT["project"]["dependencies"]} == imported
    assert _imported(client) - ours == _required("client")
    of_gateway = {_name(name) for path in gateway.rglob("*.py") for name in _imported(path) - ours - imported}
    # uvicorn takes h11 and websockets by the protocols that the gateway chooses.
    assert of_gateway | {"h11", "websockets"} == _required("gateway")


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_an_extra_that_an_error_names_is_one() -> None:
    """`pip install 'decalage[EXTRA]'` installs something."""
    assert set(EXTRAS.values()) <= set(OPTIONAL)
    assert all(OPTIONAL.values())


def test_the_lock_has_every_requirement() -> None:
    """Every package of the extras that `make lock` installs is pinned."""
    [extras] = re.findall(r"pip install .*'\.\[([a-z,]+)\]'", (ROOT / "Makefile").read_text())
    locked = {_name(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")}
    assert {name for extra in extras.split(",") for name in _required(extra)} <= locked


def _required(extra: str) -> set[str]:
    names = set()
    for requirement in OPTIONAL[extra]:
        own = re.fullmatch(r"decalage\[([a-z,]+)\]", requirement)
        names |= {name for each in own[1].split(",") for name in _required(each)} if own else {_name(requirement)}
    return names


def test_the_changelog_has_this_version_with_its_date() -> None:
    """Versions come newest first, each with the day of its release; the newest is the one that is installed."""
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [(version, date.fromisoformat(rest.removeprefix(" - "))) for version, rest in headings[1:]]
    assert headings[0] == ("Unreleased", "")
    assert released[0][0] == PROJECT["project"]["version"]
    assert [day for _, day in released] == sorted((day for _, day in released), reverse=True)
