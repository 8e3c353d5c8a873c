"""The console's files as they are served: all there, nothing inline, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from producers.gateway.app import CONSOLE
from tests.producers.gateway.conftest import Serving

SCRIPTS: Final = sorted(CONSOLE.glob("*.js"))
MAX_MODULE_LINES: Final = 300


class Page(HTMLParser):
    """The parts of the page on which its content security policy and its scripts depend."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: Final[list[str]] = []
        self.links: Final[list[str]] = []
        self.ids: Final[list[str]] = []
        self._is_in_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect links, ids, and attributes that hold code or style."""
        values = dict(attrs)
        self.inline.extend(name for name in values if name == "style" or name.startswith("on"))
        self.links.extend(link for name in ("src", "href") if (link := values.get(name)) is not None)
        self.ids.extend(value for name, value in attrs if name == "id" and value is not None)
        self._is_in_code = tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        """Collect what stands inside of a script or style element."""
        if self._is_in_code and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave a script or style element."""
        self._is_in_code = False


PAGE: Final = Page((CONSOLE / "index.html").read_text(encoding="utf-8"))


def test_nothing_is_inline() -> None:
    """`default-src 'self'` forbids code and style inside of the page."""
    assert PAGE.inline == []


def test_everything_the_page_loads_is_here() -> None:
    """Links lead to files beside the page, to the gateway's own routes, or into the page."""
    files = [link for link in PAGE.links if not link.startswith(("/", "#"))]
    assert {link for link in PAGE.links if link.startswith("/")} <= {"/", "/docs"}
    assert [link for link in files if not (CONSOLE / link).is_file()] == []
    assert "main.js" in files


def test_ids_are_unique_and_those_of_the_scripts_exist() -> None:
    """Each `byId("…")` finds one element."""
    assert len(PAGE.ids) == len(set(PAGE.ids))
    texts = [path.read_text(encoding="utf-8") for path in SCRIPTS]
    asked = {name for text in texts for name in re.findall(r'byId\("([^"]+)"\)', text)}
    assert asked <= set(PAGE.ids)


async def test_files_of_two_versions_never_meet(serving: Serving) -> None:
    """A browser asks each time, and gets a file again only if it has changed."""
    async with serving() as served:
        first = await served.http.get("/main.js")
        again = await served.http.get("/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert [answer.status_code for answer in (first, again)] == [200, 304]
    assert {answer.headers["cache-control"] for answer in (first, again)} == {"no-cache"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script(path: Path) -> None:
    """It is small, imports only its neighbours, and writes no markup: words of a session are always text."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_MODULE_LINES
    for name in re.findall(r'from "([^"]+)"', text):
        assert name.startswith("./")
        assert (CONSOLE / name).is_file()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
