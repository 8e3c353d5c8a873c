"""The console in a real browser, against a real gateway, worker and Redis."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from producers import Subscriber
from producers.gateway.auth import Caller
from protocol import OutputTextDelta, SessionClosed
from tests.producers.gateway.browser import Browser, Page
from tests.producers.gateway.conftest import Running, Served, Serving, hashed, ready
from tests.producers.proxy import Proxy

TEXT: Final = "I do not know where he lives. He speaks three languages."
NUM_WORDS: Final = len(TEXT.split())
AXE: Final = Path(__file__).resolve().parents[3] / "node_modules" / "axe-core" / "axe.min.js"
"""Where `npm install --no-save axe-core` puts it."""

IS_DONE: Final = "document.querySelector('#speak').textContent.trim() === 'Speak again'"


def state(name: str) -> str:
    """Return an expression that is true while the status line shows this state."""
    return f"document.querySelector('#status').dataset.state === '{name}'"


def count(selector: str, at_least: int) -> str:
    """Return an expression that is true once this many elements match."""
    return f"document.querySelectorAll({json.dumps(selector)}).length >= {at_least}"


async def open_console(browser: Browser, url: str, text: str | None = TEXT, *, num_lanes: int = 1) -> Page:
    """Open the console with a text of our own, at the fastest pace, in the first lanes of a first visit."""
    page = await browser.new_page()
    await page.open(url)
    await page.wait_for(state("ready"))
    await page.evaluate("localStorage.setItem('decalage.pace', '360')")
    await page.open(url)
    await page.wait_for(state("ready"))
    if num_lanes == 1:
        await page.click(".lane:nth-of-type(2) .remove")
        await page.wait_for("document.querySelectorAll('.lane').length === 1")
    if text is not None:
        await page.click("#text")
        await page.evaluate("document.querySelector('#text').select()")
        await page.type(text)
    return page


async def link_of(page: Page, lane: int = 1) -> str:
    """Return the listener link of a lane, and close the dialog that shows it."""
    await page.click(f".lane:nth-of-type({lane}) .share")
    link = str(await page.wait_for("document.querySelector('dialog[open] #share-url')?.value"))
    await page.press("Escape")
    return link


async def words_of(link: str, redis_url: str) -> list[str]:
    """Return the words of the session that a link reads, from Redis; check that all source words were translated."""
    session_id = link.partition("#listen=")[2].partition("~")[0]
    words = []
    async with Subscriber(redis_url, session_id) as events:
        async for event in events:
            if isinstance(event, OutputTextDelta):
                words.append(event.word)
            elif isinstance(event, SessionClosed):
                assert event.source_words == NUM_WORDS
    return words


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a network that can be cut, and the gateway's URL behind it."""
    async with Proxy(url) as network:
        yield network, f"http://127.0.0.1:{urlsplit(network.url).port}/"


async def test_typed_words_are_translated_in_order_by_two_policies_side_by_side(
    browser: Browser, served: Served, redis_url: str
) -> None:
    """Each lane shows all words that its session wrote, in order; each word is tied to what had been read."""
    page = await open_console(browser, served.url, num_lanes=2)
    await page.press("Enter", ctrl=True)
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == TEXT.split()
    for lane in (1, 2):
        words = await words_of(await link_of(page, lane), redis_url)
        assert await page.texts(f".lane:nth-of-type({lane}) .target span") == words
    await page.hover(".lane:nth-of-type(1) .target span")
    assert await page.texts("#source-words .read") == ["I", "do", "not"]  # wait-3
    await page.hover(".lane:nth-of-type(2) .target span")
    assert await page.texts("#source-words .read") == TEXT.split()[:7]  # whole sentence
    assert page.problems == []


THREAD_ENDS_AT_THE_WORD: Final = """
(() => {
  const [x, y] = document.querySelector('#ties .held').getAttribute('d').split(' ').slice(-2).map(Number);
  const stage = document.querySelector('#stage').getBoundingClientRect();
  const word = document.querySelector('.tied-word').getBoundingClientRect();
  return Math.abs(stage.left + x - (word.left + word.right) / 2) < 2 && Math.abs(stage.top + y - word.top) < 2;
})()
"""


async def test_arrow_keys_walk_through_the_words_and_lanes(browser: Browser, served: Served) -> None:
    """The tie follows the focus: to the next word, to the other lane, and is said in words."""
    page = await open_console(browser, served.url, num_lanes=2)
    await page.click("#speak")
    await page.wait_for(IS_DONE)
    await page.evaluate("document.querySelector('.target span').focus()")
    await page.press("ArrowRight")
    assert await page.texts("#source-words .newest") == ["know"]
    assert "after “I do not know”: 3 words behind" in (await page.texts("#readout"))[0]
    await page.press("ArrowDown")
    assert await page.texts("#source-words .newest") == ["lives."]
    assert await page.evaluate(THREAD_ENDS_AT_THE_WORD)
    await page.evaluate("document.querySelector('.lanes').style.marginTop = '9rem'")
    await page.evaluate("document.querySelector('#stage').dispatchEvent(new Event('scroll'))")
    assert await page.evaluate(THREAD_ENDS_AT_THE_WORD)
    await page.press("Escape")
    assert await page.texts("#source-words .newest") == []


async def test_a_cut_network_is_shown_and_resumed_without_gap_or_duplicate(
    browser: Browser, served: Served, redis_url: str
) -> None:
    """Words spoken while the network is away arrive after it, and so do the words written meanwhile."""
    async with proxied(served.url) as (network, url):
        page = await open_console(browser, url)
        await page.click("#speak")
        await page.wait_for(count(".lane:nth-of-type(1) .target span", 2))
        link = await link_of(page)
        await network.down()
        await page.wait_for(state("lost"))
        await page.wait_for(count("#source-words .said", NUM_WORDS))
        await network.up()
        await page.wait_for(IS_DONE)
        assert await page.texts(".lane:nth-of-type(1) .target span") == await words_of(link, redis_url)
        assert page.problems == []


async def first_word_s(page: Page) -> float:
    """Return what the first lane shows as the delay of its first word."""
    [text] = await page.texts(".lane:nth-of-type(1) .first")
    return float(text.removesuffix(" s"))


async def test_a_reload_goes_on_without_gap_or_duplicate(browser: Browser, served: Served, redis_url: str) -> None:
    """The page speaks the rest of its text into the same sessions, and shows all that they have written, in time."""
    page = await open_console(browser, served.url, num_lanes=2)
    await page.click("#speak")
    await page.wait_for(count(".lane:nth-of-type(1) .target span", 1))
    links = [await link_of(page, lane) for lane in (1, 2)]
    before_s = await first_word_s(page)
    await page.reload()
    await page.wait_for(count(".lane:nth-of-type(1) .target span", 4))
    await page.reload()
    await page.wait_for(IS_DONE)
    await page.reload()
    await page.wait_for(count(".lane:nth-of-type(2) .target span", 4))
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == TEXT.split()
    for lane, link in enumerate(links, 1):
        words = await words_of(link, redis_url)
        await page.wait_for(count(f".lane:nth-of-type({lane}) .target span", len(words)))
        assert await page.texts(f".lane:nth-of-type({lane}) .target span") == words
        assert (await link_of(page, lane)).partition("~")[0] == link.partition("~")[0]
    assert await first_word_s(page) == pytest.approx(before_s, abs=0.5)
    assert page.problems == []


async def test_a_reload_keeps_what_is_paused_and_what_is_typed(browser: Browser, served: Served) -> None:
    """A paused text is still paused, at the same word; a text that nobody has spoken yet is there to edit."""
    page = await open_console(browser, served.url)
    await page.click("#speak")
    await page.wait_for(count("#source-words .said", 2))
    await page.click("#speak")
    await page.wait_for("document.querySelector('#speak').textContent.trim() === 'Resume'")
    num_said = len(await page.texts("#source-words .said"))
    await page.click("#new-talk")
    await page.type("It is raining now.")
    await page.reload()
    await page.wait_for("document.querySelector('#text').value === 'It is raining now.'")
    await page.click("#talks li:first-child .name")
    await page.wait_for("document.querySelector('#speak').textContent.trim() === 'Resume'")
    assert len(await page.texts("#source-words .said")) == num_said
    await page.click("#speak")
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == TEXT.split()
    assert page.problems == []


async def test_a_listener_follows_by_link_across_a_cut_network(
    browser: Browser, served: Served, redis_url: str
) -> None:
    """The captions show every word of the session; the link opens nothing else."""
    page = await open_console(browser, served.url)
    await page.click("#speak")
    link = await link_of(page)
    async with proxied(served.url) as (network, url):
        listener = await browser.new_page(width=375, height=812)
        await listener.open(url + "#" + link.partition("#")[2])
        await listener.wait_for(count("#caption-lines span", 1))
        network.cut()
        await listener.wait_for("document.querySelector('#caption-status').dataset.state === 'ended'")
        words = await words_of(link, redis_url)
        assert await listener.texts("#caption-lines span") == words
        await listener.reload()
        await listener.wait_for("document.querySelector('#caption-status').dataset.state === 'ended'")
        assert await listener.texts("#caption-lines span") == words
        assert await listener.evaluate("document.querySelector('#console').hidden")
    assert [*page.problems, *listener.problems] == []


async def test_pause_and_several_sessions(browser: Browser, served: Served) -> None:
    """A paused text stays where it is, while another session of the page is translated to its end."""
    other = "It is raining now."
    page = await open_console(browser, served.url)
    await page.click("#speak")
    await page.wait_for(count("#source-words .said", 2))
    await page.click("#speak")
    await page.wait_for("document.querySelector('#speak').textContent.trim() === 'Resume'")
    num_said = len(await page.texts("#source-words .said"))
    await page.click("#new-talk")
    await page.type(other)
    await page.press("Enter", ctrl=True)
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == other.split()
    await page.click("#talks li:first-child .name")
    await page.wait_for("document.querySelector('#speak').textContent.trim() === 'Resume'")
    assert len(await page.texts("#source-words .said")) == num_said
    await page.evaluate("document.activeElement.blur()")
    await page.press(" ")
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == TEXT.split()


RECOGNITION: Final = """
window.SpeechRecognition = class {
  start() { window.recognition = this; }
  stop() { this.onend(); }
  hear(transcript, isFinal) {
    const result = Object.assign([{ transcript }], { isFinal });
    this.onresult({ results: [result], resultIndex: 0 });
  }
};
"""


async def test_recognised_speech_is_translated(browser: Browser, served: Served) -> None:
    """Words go out as soon as two hypotheses agree; what the recogniser takes back later is not sent twice."""
    page = await browser.new_page()
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=RECOGNITION)
    await page.open(served.url)
    await page.wait_for(state("ready"))
    await page.click("#microphone")
    await page.wait_for("window.recognition")
    for hypothesis in ("he", "he speaks", "he speaks tree", "he speaks three"):
        await page.evaluate(f"recognition.hear({json.dumps(hypothesis)}, false)")
    await page.wait_for(count("#source-words .said", 2))
    await page.evaluate("recognition.hear('he speaks three languages.', true)")
    await page.wait_for(count(".lane:nth-of-type(2) .target span", 4))
    await page.click("#stop")
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == ["he", "speaks", "three", "languages."]
    assert page.problems == []


async def test_markup_in_words_is_text(browser: Browser, served: Served) -> None:
    """Words that look like HTML are shown as they are, on both sides."""
    text = "He <b>is</b> <img src=x onerror=document.title=1> here."
    page = await open_console(browser, served.url, text)
    title = await page.evaluate("document.title")
    await page.click("#speak")
    await page.wait_for(IS_DONE)
    assert await page.texts("#source-words .said") == text.split()
    assert await page.evaluate("document.querySelectorAll('#stage :is(img, b)').length") == 0
    assert await page.evaluate("document.title") == title
    assert page.problems == []


async def test_what_the_worker_refuses_is_said(browser: Browser, served: Served) -> None:
    """A language that the model does not have is named in the lane; the other lane goes on."""
    page = await open_console(browser, served.url, num_lanes=2)
    await page.evaluate("{ const s = document.querySelector('.language'); s.value = 'es'; s.onchange(); }")
    await page.click("#speak")
    await page.wait_for(IS_DONE)
    assert "translates into fr" in (await page.texts(".lane:nth-of-type(1) .lane-error"))[0]
    assert await page.texts(".lane:nth-of-type(2) .target span") != []


async def test_a_key_is_asked_for_and_used(browser: Browser, serving: Serving, running: Running) -> None:
    """Where the gateway has keys, a wrong one is asked for again and a right one opens sessions and sockets."""
    async with running(), serving(keys=hashed(open_sesame=Caller("demo"))) as served:
        await ready(served)
        page = await open_console(browser, served.url, text=None, num_lanes=2)
        for key in ("wrong", "open_sesame"):
            await page.wait_for("document.querySelector('#key-dialog').open")
            await page.evaluate("document.querySelector('#key').focus()")
            await page.type(key)
            await page.press("Enter")
        await page.wait_for("!document.querySelector('#key-dialog').open")
        await page.click("#speak")
        await page.wait_for(count(".lane:nth-of-type(1) .target span", 3))


async def violations(page: Page, script: str) -> list[str]:
    """Return what axe-core finds wrong with the page as it is, with the first place of each."""
    await page.evaluate(f"{script}; 0")
    # The threads lie over the words: without them axe can tell the contrast.
    await page.evaluate("document.querySelector('#ties').style.visibility = 'hidden'")
    found = await page.evaluate(
        "axe.run().then(({violations}) => violations.map((v) => `${v.id}: ${v.nodes[0].html}`))"
    )
    return list(found)


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm install --no-save axe-core")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (375, False), (375, True)])
async def test_axe_finds_no_violation(browser: Browser, served: Served, width: int, dark: bool) -> None:
    """Neither before, nor while a word is tied, nor without a network, nor in menu, dialog and captions."""
    script = AXE.read_text(encoding="utf-8")
    page = await browser.new_page(width=width, dark=dark)
    async with proxied(served.url) as (network, url):
        await page.open(url)
        await page.wait_for(state("ready"))
        await page.click(".add-lane")
        assert await violations(page, script) == []
        await page.click("#samples button")
        await page.wait_for(count(".lane:nth-of-type(1) .target span", 4))
        await page.click("#speak")
        await page.hover(".lane:nth-of-type(1) .target span")
        assert await violations(page, script) == []
        await network.down()
        await page.wait_for(state("lost"))
        assert await violations(page, script) == []
        await network.up()
        await page.wait_for(state("resumed"))
        await page.click(".menu summary")
        assert await violations(page, script) == []
        await page.press("Escape")
        await check_dialog_and_captions(browser, page, served.url, script)


async def check_dialog_and_captions(browser: Browser, page: Page, url: str, script: str) -> None:
    """Look at the dialog with a lane's link, and at what the link shows, in a tab of the same size and colours."""
    width, dark = await page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]")
    await page.click(".share")
    link = str(await page.wait_for("document.querySelector('dialog[open] #share-url')?.value"))
    assert await violations(page, script) == []
    listener = await browser.new_page(width=width, dark=dark)
    await listener.open(url + "#" + link.partition("#")[2])
    await listener.wait_for(count("#caption-lines span", 1))
    assert await violations(listener, script) == []
