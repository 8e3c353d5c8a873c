"""Models of the hub: a whole one in the cache is not asked for; what the hub refuses, and why, reaches the user."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from tests.worker.engine.conftest import chat_tokenizer
from tests.worker.engine.tiny import save
from worker.engine import hub
from worker.engine.errors import ModelNotFound
from worker.engine.loading import model_path

REPO = "owner/name"


@contextmanager
def answering(status: int, headers: dict[str, str]) -> Iterator[str]:
    """The address of a hub that gives this answer to everything; status 0: none until the end."""
    is_over = threading.Event()

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not status:
                is_over.wait(30)
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that must not be asked."""
    download = partial(huggingface_hub.snapshot_download, cache_dir=tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("asked the hub"))
    return tmp_path


def fill(cache: Path) -> Path:
    """Put a model into the cache, as a download does; return its directory."""
    repo = cache / "models--owner--name"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc123")
    (repo / "snapshots").mkdir()
    path = repo / "snapshots" / "abc123"
    path.mkdir()
    save("llama", path, vocab_size=258)
    chat_tokenizer().save_pretrained(path)
    return path


def ask(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of the model where the hub at this address does not give it."""
    monkeypatch.setattr(hub, "HfApi", lambda: huggingface_hub.HfApi(endpoint=address, token=False))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    with pytest.raises(ModelNotFound) as failure:
        model_path(REPO)
    return str(failure.value)


def test_a_model_in_the_cache(cache: Path) -> None:
    """It is found without a question to the hub."""
    path = fill(cache)
    assert model_path(REPO) == path


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_that_is_not_whole(cache: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was cut off goes on; where the hub does not answer, that is the reason."""
    path = fill(cache)
    (path / missing).unlink()
    with answering(503, {}) as address:
        assert "status 503" in ask(address, monkeypatch)
    (path / missing).symlink_to("../../blobs/1f")
    with answering(503, {}) as address:
        assert "status 503" in ask(address, monkeypatch)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (
            403,
            {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model owner/name is restricted."},
            ["gated (Access to model owner/name is restricted.)", "ask for access at {}/owner/name", "hf auth login"],
        ),
        (
            401,
            {"X-Error-Code": "GatedRepo", "X-Error-Message": "You need to agree to share your contact information."},
            ["gated (You need to agree to share your contact information.)", "HF_TOKEN"],
        ),
        (404, {"X-Error-Code": "RepoNotFound"}, ["no such repository, or a private one", "check the name"]),
        (
            401,
            {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."},
            ["Invalid username"],
        ),
        (403, {"X-Error-Message": "Your IP is blocked."}, ["status 403 (Your IP is blocked.)"]),
        (429, {"Retry-After": "1"}, ["status 429", "try again later"]),
        (500, {}, ["status 500"]),
    ],
)
def test_a_hub_that_refuses(
    cache: Path, status: int, headers: dict[str, str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own reason, and what to do about it."""
    with answering(status, headers) as address:
        message = ask(address, monkeypatch)
        assert message.startswith("the model 'owner/name' is not in the local cache, and ")
        for part in said:
            assert part.format(address) in message


def test_a_hub_that_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait has an end, of which the message tells; so has one for a hub that is not there."""
    monkeypatch.setattr(hub, "ANSWER_S", 0.2)
    with answering(0, {}) as address:
        assert f"{address} did not answer within 0.2 s: check the network" in ask(address, monkeypatch)
    assert f"could not be downloaded from {address} (" in ask(address, monkeypatch)


def test_a_machine_that_must_not_ask(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that forbids it is named."""

    class Offline:
        def model_info(self, *_: object, **__: object) -> None:
            raise OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled.")

    monkeypatch.setattr(hub, "HfApi", Offline)
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE forbids"):
        model_path(REPO)


def test_a_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision that the hub named is downloaded, with the files of a model."""

    class Api:
        def model_info(self, repo: str, timeout: float) -> object:
            assert timeout == hub.ANSWER_S
            return type("Info", (), {"sha": f"revision of {repo}"})

    def download(repo: str, *, allow_patterns: list[str], revision: str = "", local_files_only: bool = False) -> str:
        if local_files_only:
            raise FileNotFoundError(repo)
        assert revision == f"revision of {repo}"
        assert {"*.json", "model*.safetensors", "*.jinja"} <= set(allow_patterns)
        return str(cache)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert model_path(REPO) == cache
