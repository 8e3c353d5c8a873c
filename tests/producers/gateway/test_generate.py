"""The documents' routes: prompts, statistics, settings, and the OpenAPI document, before a real worker."""

import asyncio
import json
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import jsonschema
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from producers.gateway import openapi
from producers.gateway.figures import Figures
from producers.gateway.generate import GenerateRequest, session_of
from producers.gateway.prompts import split_prompt
from producers.gateway.stats import change, stats
from protocol import WaitK, WorkerConfigure, WorkerStats, decode_worker
from protocol.keys import CONFIGURE_KEY, EVENT_FIELD
from tests.producers.gateway.conftest import DEADLINE_S, Running, Served, Serving, ready
from tests.producers.gateway.streams import frames
from tests.producers.gateway.test_auth import error_of

HOME = "Nous sommes chez nous."
TRAIN = "Le train part à 8 heures."


async def test_one_prompt(served: Served) -> None:
    """The document's own call translates, with its field names."""
    body = {"prompt": "Translate to French: We are at home.", "max_tokens": 100, "temperature": 0, "top_p": 0.95}
    answer = await served.http.post("/v1/generate", json={**body, "stream": False, "use_speculative": True})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["text"], result["finish_reason"], result["object"]) == (HOME, "stop", "text_completion")
    assert result["num_tokens"] > 0
    assert result["latency_s"] > 0


async def test_word_by_word(served: Served) -> None:
    """With `stream`, each word is an event as it is written; the last one is the whole answer."""
    body = {"prompt": "We are at home.", "target_language": "fr", "wait_k": 2, "stream": True}
    async with served.http.stream("POST", "/v1/generate", json=body) as response, asyncio.timeout(DEADLINE_S):
        heard = [frame async for frame in frames(response)]
    *words, end = heard
    assert "".join(frame.data["text"] for frame in words) == end.data["text"]
    assert (words[0].data["type"], words[0].data["source_words_read"]) == ("output_text.delta", 2)
    assert (end.event, end.data["finish_reason"]) == ("end", "stop")


async def test_a_batch(served: Served) -> None:
    """Each prompt gets the text that it gets alone, in the order of the prompts."""
    prompts = ["We are at home.", "The train leaves at eight."] * 4
    answer = await served.http.post("/v1/generate_batch", json={"prompts": prompts, "target_language": "fr"})
    assert [each["text"] for each in answer.json()["results"]] == [HOME, TRAIN] * 4
    alone = [
        (await served.http.post("/v1/generate", json={"prompt": prompt, "target_language": "fr"})).json()["text"]
        for prompt in prompts[:2]
    ]
    assert alone == [HOME, TRAIN]


async def test_statistics(serving: Serving, running: Running) -> None:
    """The document's fields, from the workers' own reports; a batch has taken fewer passes than it has rows."""
    async with running(stats_ms=10), serving() as served:
        await ready(served)
        await served.http.post("/v1/generate_batch", json={"prompts": ["We are at home."] * 8, "target_language": "fr"})
        async with asyncio.timeout(DEADLINE_S):
            while not (figures := (await served.http.get("/v1/stats")).json())["target_words"]:
                pass
    assert figures["total_requests"] == 8
    assert figures["average_latency"] > 0
    assert figures["batching_stats"]["total_batches"] > 0
    assert figures["batching_stats"]["avg_batch_size"] > 1
    assert figures["batching_stats"]["total_tokens"] > 0
    assert set(figures["speculative_stats"]) == {"acceptance_rate", "draft_length"}
    assert figures["workers"][0]["model"] == "starter"


def test_statistics_of_nothing() -> None:
    """Shares of nothing are null, and never a division by zero."""
    figures = stats(Figures(), [])
    assert figures["average_latency"] is None
    assert figures["batching_stats"] == {"total_batches": 0, "avg_batch_size": None, "total_tokens": 0}


def test_statistics_of_two_workers() -> None:
    """Counts are added up, and shares are those of the sums."""
    first = WorkerStats(
        worker="a", model="m", sessions=1, source_words=2, target_words=3, ticks=4, forwards=40, tokens=6, kv_bytes=7,
        uptime_ms=8, passes=10, accepted_drafts=3, proposed_drafts=4, drafted_rows=2,
    )  # fmt: skip
    figures = stats(Figures(generations=4, generation_s=2.0), [first, msgspec.structs.replace(first, worker="b")])
    assert (figures["total_requests"], figures["average_latency"], figures["sessions"]) == (4, 0.5, 2)
    assert figures["batching_stats"] == {"total_batches": 20, "avg_batch_size": 4.0, "total_tokens": 12}
    assert figures["speculative_stats"] == {"acceptance_rate": 0.75, "draft_length": 2.0}


async def test_metrics(serving: Serving) -> None:
    """Prometheus reads every figure, under a name in base units, as it is now."""
    async with serving() as served:
        await served.http.get("/v1/sessions/none")
        answer = await served.http.get("/metrics")
    samples = {
        (sample.name, family.type): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    names = {field if field != "generation_s" else "generation_seconds" for field in Figures.__struct_fields__}
    counters = {(f"decalage_gateway_{name}_total", "counter") for name in names}
    assert set(samples) == counters | {("decalage_gateway_connections", "gauge"), ("decalage_gateway_feeds", "gauge")}
    assert samples["decalage_gateway_requests_total", "counter"] == 1


async def test_settings_reach_the_workers(served: Served, redis_client: Redis) -> None:
    """By query as in the document, or by body."""
    answer = await served.http.post("/v1/configure?use_speculative_decoding=true&max_batch_size=16")
    assert (answer.status_code, answer.json()["settings"]) == (202, {"use_speculative": True, "max_batch_size": 16})
    await served.http.post("/v1/configure", json={"max_draft_tokens": 3})
    entries: Any = await redis_client.xrange(CONFIGURE_KEY)
    events = [decode_worker(fields[EVENT_FIELD.encode()]) for _, fields in entries]
    assert events == [WorkerConfigure(use_speculative=True, max_batch_size=16), WorkerConfigure(max_draft_tokens=3)]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, b""),
        ({"max_batch_size": "0"}, b""),
        ({"max_batch_size": "x"}, b""),
        ({"no_such": "1"}, b""),
        ({"worker": "a"}, b""),
        ({}, b"{"),
        ({}, b'{"batch_timeout_ms": -1}'),
        ({}, b'{"max_sessions": "4"}'),
    ],
)
def test_wrong_settings(query: dict[str, str], body: bytes) -> None:
    """They change nothing."""
    with pytest.raises(Exception, match=r"[Ee]xpected|unknown field"):
        change(query, body)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({}, (400, "invalid_event")),
        ({"prompt": ""}, (400, "invalid_event")),
        ({"prompt": "Hello", "max_tokens": 0}, (400, "invalid_event")),
        ({"prompt": "Hello", "temprature": 1}, (400, "invalid_event")),
        ({"prompt": "Hello", "wait_k": 1, "policy": {"type": "wait-k"}}, (400, "invalid_value")),
        ({"prompt": "Hello"}, (400, "unsupported_language")),
        ({"prompt": "Hello", "target_language": "tlh"}, (400, "unsupported_language")),
    ],
)
async def test_wrong_prompts(served: Served, body: Any, outcome: Any) -> None:
    """What the gateway or the worker refuses is the answer's error."""
    assert error_of(await served.http.post("/v1/generate", json=body)) == outcome


async def test_a_prompt_is_cut_at_max_tokens(served: Served) -> None:
    """No more tokens than asked for, and the reason says so."""
    body = {"prompt": "We are at home. The train leaves at eight.", "target_language": "fr", "max_tokens": 3}
    result = (await served.http.post("/v1/generate", json=body)).json()
    assert result["num_tokens"] <= 3
    assert result["finish_reason"] == "length"


def test_the_session_of_a_prompt() -> None:
    """A policy streams, none reads the whole prompt first; an instruction is the session's, not a source word."""
    session, text = session_of(GenerateRequest(prompt="Translate to German: Hi", wait_k=2), "Translate to German: Hi")
    assert (session.prompt, text, session.mode, session.policy) == (
        "Translate to German:",
        "Hi",
        "streaming",
        WaitK(k=2),
    )
    session, text = session_of(GenerateRequest(prompt="Hi", target_language="de"), "Hi")
    assert (session.prompt, session.target_language, text, session.mode) == (None, "de", "Hi", "completion")


@pytest.mark.parametrize("prompt", ["Translate", "Translate to French:", "What does translate to French: mean?", "x"])
def test_a_prompt_without_an_instruction_is_all_text(prompt: str) -> None:
    """Only a leading instruction with a text behind it is split off."""
    assert split_prompt(prompt) == (None, prompt)


async def test_the_openapi_document(served: Served) -> None:
    """It is valid JSON Schema inside, names all routes of the application, and its examples run."""
    document = (await served.http.get("/v1/openapi.json")).json()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    opened = (await served.http.post("/v1/sessions", json={"session": {"target_language": "fr"}})).json()["id"]
    for operation in openapi.OPERATIONS:
        path = operation.path.replace("{id}", opened)
        if operation.method == "delete":
            continue
        content = json.dumps(operation.example) if operation.body else None
        answer = await served.http.request(operation.method, path, content=content)
        assert answer.status_code == operation.status, (path, answer.text)
        assert answer.headers["content-type"].startswith(operation.content.partition(";")[0])


@pytest.mark.parametrize("paths", [("--exclude-path", "/v1/configure"), ("--include-path", "/v1/configure")], ids=str)
async def test_nothing_that_the_document_allows_is_a_server_error(served: Served, paths: tuple[str, str]) -> None:
    """schemathesis, with values inside the schemas; settings apart, since some leave a worker no room for others."""
    options = ["--checks", "not_a_server_error", "--phases", "examples,fuzzing", "--max-examples", "10", "--seed", "1"]
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "run", f"{served.url}v1/openapi.json", *options, *paths]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--request-timeout", "8", stdout=PIPE, stderr=STDOUT, cwd=gettempdir()
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


async def test_the_page_of_the_api(serving: Serving) -> None:
    """Each route is there with a command that a shell can read, and no script."""
    async with serving() as served:
        shown = (await served.http.get("/docs")).text
    assert "<script" not in shown
    assert all(f"{each.method.upper()} {each.path}" in shown for each in openapi.OPERATIONS)
    assert all(shlex.split(openapi.curl(each, served.url))[0] == "curl" for each in openapi.OPERATIONS)
