"""The documentation pages, read as fenced blocks, tables, links, headings and inline commands."""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$\n(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block, and its expected output from a `text` block right behind it."""

    language: str
    text: str
    output: str | None


class Page:
    """One page in Markdown."""

    def __init__(self, name: str) -> None:
        """`name`: the path from the root of the project."""
        self.name: Final = name
        self.path: Final = ROOT / name
        self.text: Final = self.path.read_text(encoding="utf-8")
        self.prose: Final = _FENCE.sub("", self.text)
        self.blocks: Final = [Block(*found.groups()) for found in _FENCE.finditer(self.text)]

    def __repr__(self) -> str:
        return self.name

    @property
    def links(self) -> list[tuple[str, str]]:
        """Text and target of every link to a file or heading of this project, in the order of the page."""
        return [(text, to) for text, to in _LINK.findall(self.prose) if "://" not in to]

    @property
    def anchors(self) -> set[str]:
        """The names by which links reach the headings."""
        headings = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    @property
    def inline_code(self) -> list[str]:
        """The text in single backticks, line breaks as spaces."""
        return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose)]

    def target(self, link: str) -> Path:
        """Return the file or folder that this link on this page leads to, without its anchor."""
        path = link.partition("#")[0]
        return (self.path.parent / path).resolve() if path else self.path

    def table(self, first: str) -> list[list[str]]:
        """Return the cells of the table whose first column has this title, without backticks around a whole cell."""
        found, _, rest = self.text.partition(f"\n| {first} |")
        if found == self.text:
            raise LookupError(f"expected a table whose first column is {first!r} in {self.name}, got none")
        lines = rest.splitlines()[2:]
        rows = lines[: next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))]
        return [[re.sub("^`([^`]*)`$", r"\1", cell.strip()) for cell in row.strip("|").split("|")] for row in rows]


_FOLDERS: Final = (".github", "deploy", "producers", "protocol", "tests", "worker")
_PATHS: Final = sorted([*ROOT.glob("*.md"), *(path for name in _FOLDERS for path in (ROOT / name).rglob("*.md"))])
PAGES: Final = [Page(str(path.relative_to(ROOT))) for path in _PATHS]


def page(name: str) -> Page:
    """Return the page at this path."""
    return next(each for each in PAGES if each.name == name)


README: Final = page("README.md")
WIRE: Final = page("protocol/README.md")
OPERATIONS: Final = page("deploy/README.md")
