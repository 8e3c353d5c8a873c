"""The doctor's check of the model: loading, the interface that the engine needs, and a translation."""

from difflib import SequenceMatcher
from typing import Any

from worker.commands.findings import Finding
from worker.commands.translation import Model, Translation, load_model, new_task
from worker.core.languages import language_name

_SENTENCE = "The weather is nice and we are going to the park."
_LEAST_AGREEMENT = 0.5


def model(name: str) -> Finding:
    """Describe the model and translate a sentence with it. Raises EngineError if the engine cannot run it."""
    from worker.engine.adapters.compatibility import check_surface
    from worker.evaluation.policies import policy_name
    from worker.library.running import runner_of

    loaded = load_model(name)
    languages = _languages(loaded)
    language = (languages or ["fr"])[0]
    difference = check_surface(loaded.engine)
    Translation(loaded, new_task(loaded, "Good morning.", language)).finish()  # warms up
    translation = Translation(loaded, new_task(loaded, _SENTENCE, language)).finish()
    compatibility = runner_of(loaded.engine, loaded.vocabulary).compatibility
    offline = Translation(loaded, new_task(loaded, _SENTENCE, language, mode="completion")).finish()
    facts: dict[str, Any] = {
        "model": name,
        "layout": "contiguous" if loaded.vocabulary.card.is_contiguous else "group",
        "position_offset": loaded.engine.position_offset,
        "dtype": str(loaded.engine.dtype).removeprefix("mlx.core."),
        "num_parameters": loaded.engine.num_parameters,
        "languages": languages,
        "surface_difference": difference,
        "batches_rows": compatibility.batches_rows,
        "shows_attention": compatibility.shows_attention,
        "compatibility_reason": compatibility.reason,
        "policy": policy_name(translation.task.session),
        "source": _SENTENCE,
        "translation": translation.text,
        "offline": offline.text,
        "agreement": round(agreement(offline.text.split(), translation.text.split()), 2),
        "words_per_s": round(translation.words_per_s, 1),
    }
    if not translation.words:
        remedy = "use an instruction-tuned model, or the one that comes with Decalage"
        return Finding("model", "warning", f"{name} loads, but wrote nothing for {_SENTENCE!r}", remedy, facts)
    return _finding(facts)


def _finding(facts: dict[str, Any]) -> Finding:
    if facts["compatibility_reason"]:
        text = f"{_text(facts)}; sessions cannot share a pass: {facts['compatibility_reason']}"
        remedy = "expect fewer sessions at once, and no align-att; a Qwen, Llama or Mistral model has both"
        return Finding("model", "warning", text, remedy, facts)
    if facts["agreement"] < _LEAST_AGREEMENT:
        remedy = "read both; a larger model, or one that `decalage train` has tuned, streams better"
        return Finding("model", "warning", _text(facts), remedy, facts)
    return Finding("model", "ok", _text(facts), facts=facts)


def agreement(offline: list[str], streamed: list[str]) -> float:
    """Return the share of words that two translations have in common, in their order.

    >>> agreement("Il est venu".split(), "Il vient".split())
    0.4
    """
    return SequenceMatcher(None, offline, streamed, autojunk=False).ratio()


def _languages(loaded: Model) -> list[str]:
    prompt = loaded.vocabulary.card.prompt
    return [] if prompt is None else list(prompt.source)


def _text(facts: dict[str, Any]) -> str:
    names = " and ".join(language_name(code) for code in facts["languages"]) or "what its prompt asks for"
    difference = facts["surface_difference"]
    closeness = f"within {difference:.0e}" if difference else "exactly"
    layout = "contiguous" if facts["layout"] == "contiguous" else f"φ = {facts['position_offset']}"
    return (
        f"{facts['model']}: {facts['num_parameters'] / 1e6:.1f} M parameters, {layout}, "
        f"{facts['dtype']}, translates into {names}; dual and plain cache agree {closeness}; "
        f"{facts['words_per_s']:.0f} words/s, {facts['policy']}: {facts['translation']} Offline: {facts['offline']} "
        f"They share {facts['agreement']:.0%} of their words."
    )
