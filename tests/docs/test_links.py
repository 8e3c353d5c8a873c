"""Every link of every page leads somewhere, and every folder with modules can be reached."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import PAGES, README, ROOT, Page, page
from worker.commands.demo_screen import legend

MAX_README_LINES: Final = 150
MAX_README_WORDS: Final = 1_500


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_links_lead_somewhere(page: Page) -> None:
    """A link names a file or folder that is there, and an anchor a heading of the page that it leads to."""
    by_path = {each.path: each for each in PAGES}
    broken = []
    for _, link in page.links:
        target, anchor = page.target(link), link.partition("#")[2]
        is_heading = not anchor or (target in by_path and anchor in by_path[target].anchors)
        if not target.exists() or not is_heading:
            broken.append(link)
    assert not broken


def test_pages_are_linked() -> None:
    """From the first page, following links, one comes to every other page."""
    reached, waiting = set(), [README]
    by_path = {each.path: each for each in PAGES}
    while waiting:
        here = waiting.pop()
        reached.add(here.name)
        targets = {by_path[path] for _, link in here.links if (path := here.target(link)) in by_path}
        waiting += [each for each in targets if each.name not in reached]
    assert {each.name for each in PAGES} - reached == set()


def test_what_a_link_names_is_defined_there() -> None:
    """A name in code style that links to a module is a function, class or method of that module."""
    named = [
        (text.strip("`"), each.target(link))
        for each in PAGES
        for text, link in each.links
        if text.startswith("`") and link.endswith(".py")
    ]
    assert len(named) >= 8
    assert [(name, path.name) for name, path in named if name not in _defined(path)] == []


def _defined(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            methods = getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []
            found |= {node.name} | {f"{node.name}.{method.name}" for method in methods if hasattr(method, "name")}
    return found


def test_every_path_on_the_worker_page_is_there() -> None:
    """A file that the table of questions names in code style exists too, linked or not."""
    worker = page("worker/README.md")
    named = {code for code in worker.inline_code if re.fullmatch(r"(core|engine|io|app)/[\w/]+(\.py|/)", code)}
    assert [code for code in sorted(named) if not (worker.path.parent / code).exists()] == []


def test_the_map_has_every_package() -> None:
    """Each folder with modules is linked from the first page, or from the worker's."""
    worker = page("worker/README.md")
    modules = (path for name in ("protocol", "producers", "worker") for path in (ROOT / name).rglob("*.py"))
    linked = {each.target(link) for each in (README, worker) for _, link in each.links}
    linked |= {path.parent for path in linked if path.name == "README.md"}
    assert {str(path.parent.relative_to(ROOT)) for path in modules if path.parent not in linked} == set()


def test_the_first_page_is_short() -> None:
    """One sitting: everything else has a page of its own."""
    assert len(README.text.splitlines()) <= MAX_README_LINES
    assert len(README.text.split()) <= MAX_README_WORDS


def test_the_picture_shows_the_demo_of_today() -> None:
    """What its screen says about the lag is what the program says."""
    picture = re.sub(r"<[^>]+>", "", (ROOT / "deploy" / "demo.svg").read_text(encoding="utf-8"))
    assert legend().plain.removeprefix("₃").strip() in picture.replace("&#160;", " ")
