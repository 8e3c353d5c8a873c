"""The JavaScript of the gateway's page in a browser; tests/docs/test_blocks.py runs it in Node."""

from typing import Final

import pytest

from tests.docs.pages import Block, page
from tests.docs.place import GATEWAY_IN_PAGES
from tests.producers.gateway.browser import Browser
from tests.producers.gateway.conftest import Served

BLOCKS: Final = [block for block in page("producers/gateway/README.md").blocks if block.language == "javascript"]

_RUN: Final = """
new Promise((resolve, reject) => {
  console.log = resolve;
  (async () => { %s })().catch(reject);
})
"""


@pytest.mark.parametrize("block", BLOCKS, ids=["sse", "websocket"])
async def test_an_example_prints_what_stands_below_it(browser: Browser, served: Served, block: Block) -> None:
    """With nothing but what every browser has."""
    tab = await browser.new_page()
    await tab.open(served.url)
    host = served.url.removeprefix("http://").rstrip("/")
    printed = await tab.evaluate(_RUN % block.text.replace(GATEWAY_IN_PAGES, host))
    assert printed == (block.output or "").rstrip()
    assert tab.problems == []
