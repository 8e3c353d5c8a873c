"""The console's modules that touch no page, in a real browser: words, pace, lag, cues, files, recognised speech."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.producers.gateway.browser import Browser, Page
from tests.producers.gateway.conftest import Serving
from tests.servers import real_names
from worker.core.session import average_lagging
from worker.core.words import split_words

pytestmark = pytest.mark.parametrize("redis_url", real_names()[:1], indirect=True)

TEXTS: Final = (
    "",
    "The café  is open.",
    "a\n\tb\u00a0c",
    "今日は、Redis を使う。",
    "「今日」は（晴れ）です！ OK",
    "สวัสดีครับ hello",
    "don't stop — it's “fine”…",
    "\U00020000\U00020001 漢字、かな",
)


@pytest.fixture
async def page(browser: Browser, serving: Serving) -> AsyncIterator[Page]:
    """A tab on the console's origin, without a worker."""
    async with serving() as served:
        tab = await browser.new_page()
        await tab.open(served.url)
        yield tab
        assert tab.problems == []


async def call(page: Page, module: str, script: str, *values: Any) -> Any:
    """Return the value of an expression over a module `m` and the values `a`, `b`, …"""
    names = "".join(f", {chr(ord('a') + i)} = {json.dumps(value)}" for i, value in enumerate(values))
    return await page.evaluate(f"(async () => {{ const m = await import('/{module}'){names}; return {script}; }})()")


async def test_words_are_split_as_the_worker_splits_them(page: Page) -> None:
    """The console counts the words that the worker reads: else a tie would lead to the wrong one."""
    assert await call(page, "split.js", "a.map(m.splitWords)", TEXTS) == [split_words(text) for text in TEXTS]


async def test_a_text_takes_as_long_as_its_pace_says(page: Page) -> None:
    """The beats of n words add up to n; the end of a sentence takes longer than the same word inside of it."""
    beats = await call(page, "pacer.js", "m.beats(a)", ["go", "go.", "extraordinary", "go"])
    assert sum(beats) == pytest.approx(4)
    assert beats[1] > beats[0] == beats[3] < beats[2]


async def test_average_lagging_is_the_workers(page: Page) -> None:
    """The AL of a complete sentence is the worker's; that of an open one is the mean lag of its words."""
    lags, source_words = (3, 4, 5, 5, 5), 5
    events: list[Any] = [
        {
            "type": "output_text.delta", "segment": 0, "index": i, "word": "w", "text": " w", "source_words_read": read,
            "elapsed_ms": 10 * i, "delay_ms": i,
        }
        for i, read in enumerate(lags)
    ]  # fmt: skip
    done = {"type": "segment.done", "segment": 0, "text": "w", "source_words": source_words, "elapsed_ms": 50}
    done["average_lagging"] = average_lagging(lags, source_words)
    following = {**events[0], "segment": 1}
    script = "(() => { const lane = new m.Lane({}); for (const e of a) lane.apply(e, 0); return %s; })()"
    assert await call(page, "lane.js", script % "lane.averageLagging", events) == 2.4
    assert await call(page, "lane.js", script % "lane.averageLagging", [*events, done]) == done["average_lagging"]
    read = await call(page, "lane.js", script % "lane.words.map((w) => w.read)", [*events, done, following])
    assert read == [3, 4, 5, 5, 5, 8]  # the second sentence begins behind the 5 words of the first


async def test_cues_are_short_ordered_and_complete(page: Page) -> None:
    """No word is missing, no cue overlaps the next one or a sentence, no line is longer than 42 characters."""
    words: list[Any] = [
        {"text": f" word{i}" if i % 17 else f"Word{i}", "segment": i // 17, "atMs": 400 * i} for i in range(60)
    ]
    cues = await call(page, "cues.js", "m.toCues(a)", words)
    shown = " ".join(cue["text"].replace("\n", " ") for cue in cues).split()
    assert shown == [word["text"].strip() for word in words]
    assert all(len(line) <= 42 for cue in cues for line in cue["text"].split("\n"))
    assert all(cue["text"].count("\n") <= 1 for cue in cues)
    assert all(cue["fromMs"] < cue["toMs"] for cue in cues)
    assert all(one["toMs"] <= other["fromMs"] for one, other in pairwise(cues))


async def test_files_hold_the_words_and_their_times(page: Page) -> None:
    """Text has a line a sentence, SRT and WebVTT have cues, JSON has every word; WebVTT escapes markup."""
    words = [
        {
            "word": word, "text": word if i == 0 else f" {word}", "segment": 0, "index": i, "base": 0, "read": i + 1,
            "isNewFrom": i, "atMs": 61_000 + i, "delayMs": 5,
        }
        for i, word in enumerate(["<b>Il", "pleut."])
    ]  # fmt: skip
    talk = {"words": [{"text": "Rain.", "atMs": 0}], "numSpoken": 1, "sourceLanguage": "en"}
    lane = {
        "words": words, "options": {"language": "fr", "policy": "wait-k", "k": 3}, "sessionId": "s", "model": "starter",
        "averageLagging": 3,
    }  # fmt: skip
    writes = "([format, {write}]) => [format, write({...a, writtenAtMs: (lane, word) => word.atMs}, b)]"
    script = f"Object.fromEntries(Object.entries(m.FORMATS).map({writes}))"
    files = await call(page, "export.js", script, talk, lane)
    assert files["txt"] == "<b>Il pleut.\n"
    assert files["srt"] == "1\n00:01:01,000 --> 00:01:02,501\n<b>Il pleut.\n"
    assert files["vtt"] == "WEBVTT\n\n00:01:01.000 --> 00:01:02.501\n&lt;b&gt;Il pleut.\n"
    document = json.loads(files["json"])
    assert (document["session"], document["policy"], document["average_lagging"]) == ("s", "wait-3", 3)
    assert [word["source_words_read"] for word in document["target"]] == [1, 2]


async def test_recognised_words_are_sent_once_and_never_taken_back(page: Page) -> None:
    """A word goes out when two hypotheses agree on it; a final one brings the rest."""
    hypotheses = [
        ("I", False),
        ("I do", False),
        ("I do knot", False),
        ("I do not know", False),
        ("I do not know", True),
    ]
    script = "(() => { const p = new m.StablePrefix(); return a.map(([text, isFinal]) => p.take(text, isFinal)); })()"
    assert await call(page, "speech.js", script, [*hypotheses, ("where", True)]) == [
        [], ["I"], ["do"], [], ["not", "know"], ["where"],
    ]  # fmt: skip


async def test_ticks_reach_the_largest_value(page: Page) -> None:
    """The marks of an axis begin at 0, are few, and the last one is not below the value."""
    for largest in (0.3, 1, 4, 7, 9.5, 42, 600):
        marks = await call(page, "lag.js", "m.ticks(a)", largest)
        assert marks[0] == 0
        assert marks[-1] >= largest
        assert 2 <= len(marks) <= 6
