"""A model's card, `decalage.json` beside its weights, as `decalage train`, `tune` and `calibrate` write it."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from huggingface_hub import constants
from msgspec.structs import replace

from protocol import DEFAULT_POLICY, AlignAtt, Policy
from worker.engine.errors import UnsupportedModel
from worker.engine.text.card_cache import Findings, Heads, cached_card_file, read_cached_findings
from worker.engine.text.config import read_config

FILE = "decalage.json"
# A stock model's target positions must not overlap its source's: untuned Qwen2.5-0.5B, wait-3, has BLEU 0.3 with φ = 0,
# 10.9 with 256.
STOCK_POSITION_OFFSET = 256


Text = Annotated[str, msgspec.Meta(min_length=1)]


class TaggedPrompt(msgspec.Struct, frozen=True):
    """The special tokens of a model trained from scratch: one source tag for each target language."""

    source: Annotated[dict[str, Text], msgspec.Meta(min_length=1)]  # target language code -> token
    end: Text
    target: Text


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metadata of a model. A stock model needs none. A misspelt entry is refused: it would change nothing."""

    # Of a segment's tokens; None: "group" for a model trained with group positions, "contiguous" for a stock model.
    layout: Literal["group", "contiguous"] | None = None
    position_offset: Annotated[int, msgspec.Meta(ge=0)] = STOCK_POSITION_OFFSET  # φ, with group positions
    trained: bool = False  # with group positions, so that φ also applies to whole texts
    prompt: TaggedPrompt | None = None
    source_language: str = "en"
    # Longest source it was trained on, or in a stock model's case, takes at once.
    max_segment_words: Annotated[int, msgspec.Meta(ge=1)] | None = None
    straight_quotes: bool = False  # trained on straight apostrophes only
    wait_k: tuple[int, ...] = ()  # values it was trained for
    policy: Policy | None = None  # of sessions that ask for none
    measured: str = ""  # its quality and lag, with the policy and the test set, for people
    # (layer, head) of those that align target and source, which AlignAtt reads; none: it reads all.
    alignment_heads: Heads = ()
    training: dict[str, Any] | None = None  # how it was trained, for readers of the file alone

    @property
    def is_contiguous(self) -> bool:
        """Whether a segment is one plain sequence, as a stock model expects it."""
        if self.layout is None:
            return not self.trained and self.prompt is None
        return self.layout == "contiguous"

    @property
    def default_policy(self) -> Policy:
        """The policy of sessions that ask for none: of a stock model, AlignAtt once its heads are known."""
        if self.policy is None and self.is_contiguous and self.alignment_heads:
            return AlignAtt()
        return self.policy or DEFAULT_POLICY


def card_file(path: Path) -> Path:
    """Return the path of a model's card: in its directory, or `m.decalage.json` beside its file `m.gguf`."""
    return path.with_suffix(f".{FILE}") if path.is_file() else path / FILE


def read_card(path: Path) -> Card:
    """Read the card of a model directory or GGUF file; for a stock model, return one with a safe φ. Findings in the
    user's cache directory replace those beside the model.

    The checkpoints of the paper's authors have `_stream` in their architecture: trained with group positions, φ = 0.
    Raises UnsupportedModel where a file cannot be read.
    """
    return replace(_read_own_card(path), **_entries(read_cached_findings(path)))


def write_findings(path: Path, found: Findings) -> Path:
    """Write what was found into the model's card, other entries left as they are, and return its file: that in its
    directory or, for a GGUF file, a model of the hub's cache and a directory that cannot be written, one in the user's
    cache directory.

    Raises OSError where neither can be written.
    """
    in_hub_cache = Path(constants.HF_HUB_CACHE).resolve() in path.resolve().parents
    findings = msgspec.to_builtins(read_cached_findings(path)) | msgspec.to_builtins(found)
    if not (path.is_file() or in_hub_cache) and os.access(path, os.W_OK):
        file = card_file(path)
        card = json.loads(file.read_bytes()) if file.exists() else msgspec.to_builtins(_read_own_card(path))
        with suppress(OSError):
            _write_json(file, card | findings)
            cached_card_file(path).unlink(missing_ok=True)  # its findings are in the card now
            return file
    file = cached_card_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_json(file, findings)
    return file


def _write_json(file: Path, content: dict[str, Any]) -> None:
    # Whole or not at all.
    new = file.with_name(f".new-{file.name}")
    try:
        new.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(new, file)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _entries(found: Findings) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(found).items() if value is not None}


def _read_own_card(path: Path) -> Card:
    file = card_file(path)
    if file.exists():
        try:
            return replace(msgspec.json.decode(file.read_bytes(), type=Card), training=None)
        except msgspec.DecodeError as error:
            raise UnsupportedModel(f"{file}: {error}; correct that entry of the model's card, or remove it") from error
    config = read_config(path)
    if any(str(name).endswith("_stream") for name in config.get("architectures") or ()):
        return Card(position_offset=0, trained=True)
    return Card()
