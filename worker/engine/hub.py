"""Models of the Hugging Face hub: from its cache on this machine, else by a download."""

from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from worker.engine.errors import ModelNotFound, UnsupportedModel
from worker.engine.files import check_directory, check_tokenizer_files, check_weights

ANSWER_S: Final = 10.0
"""Longest wait for the hub's first answer."""
_FILES: Final = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja"]
_LOG_IN: Final = "log in with `hf auth login`, or set HF_TOKEN"


def hub_model(repo: str) -> Path:
    """Return the directory of a hub's model. One that is whole in the cache is taken without asking the hub.

    Raises ModelNotFound with the hub's reason.
    """
    cached = _cached(repo)
    if cached is not None:
        return cached
    try:
        # snapshot_download would wait for ever for a first answer.
        revision = HfApi().model_info(repo, timeout=ANSWER_S).sha
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # each library below has errors of its own
        raise ModelNotFound(f"the model {repo!r} is not in the local cache, and {_refusal(repo, error)}") from error


def _cached(repo: str) -> Path | None:
    try:
        path = Path(snapshot_download(repo, allow_patterns=_FILES, local_files_only=True))
        check_directory(path)
        check_weights(path)
        check_tokenizer_files(path)
    except (OSError, ValueError, UnsupportedModel):  # not there, or not whole: a download was cut off
        return None
    return path


def _refusal(repo: str, error: Exception) -> str:
    said = " ".join(str(getattr(error, "server_message", None) or error).split()) or type(error).__name__
    hub = constants.ENDPOINT
    match error:
        case GatedRepoError():
            return f"its repository is gated ({said}): ask for access at {hub}/{repo}, then {_LOG_IN}"
        case RepositoryNotFoundError():
            return f"{hub} has no such repository, or a private one ({said}): check the name, or {_LOG_IN}"
        case HfHubHTTPError():
            return f"{hub} refused it with status {error.response.status_code} ({said}): try again later, or {_LOG_IN}"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE forbids to ask the hub: unset it, or download the model first"
    if "timeout" in type(error).__name__.lower():
        return f"{hub} did not answer within {ANSWER_S:g} s: check the network, or give the path of a model directory"
    return f"could not be downloaded from {hub} ({said}): check the network, or give the path of a model directory"
