"""`decalage tune`."""

import json
import shutil
from pathlib import Path

import pytest

from protocol import Adaptive, WaitK, parse_policy, policy_name
from tests.worker.commands.conftest import Decalage
from worker.engine.loading import model_path
from worker.engine.text.card import read_card

pytestmark = pytest.mark.usefixtures("with_model")
LINES = "Where is the station?\tOù est la gare ?\nThank you for the coffee.\tMerci pour le café.\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A copy of the smaller of the shipped models, without a policy in its card."""
    folder = tmp_path / "mine"
    shutil.copytree(model_path("starter-draft"), folder)
    card = json.loads((folder / "decalage.json").read_text())
    card.pop("policy", None)
    (folder / "decalage.json").write_text(json.dumps(card | {"training": {"note": "kept"}}))
    (tmp_path / "valid.en-fr.tsv").write_text(LINES, encoding="utf-8")
    return folder


def test_what_is_found_becomes_the_default(decalage: Decalage, mine: Path) -> None:
    """The card names the best policy and its figures, and sessions without a policy follow it; all else in it stays."""
    ran = decalage(
        "tune", "--model", str(mine), "--test", str(mine.parent / "valid.en-fr.tsv"), "--wait-k", "1", "--json"
    )
    card = json.loads((mine / "decalage.json").read_text())
    assert card["policy"] == ran.json["best"]["policy"]
    assert card["training"] == {"note": "kept"}
    policy = read_card(mine).default_policy
    assert card["measured"].startswith(policy_name(policy))
    assert "valid.en-fr.tsv" in card["measured"]
    prompt = ("--to", "fr", "--prompt", "Where is the station?", "--json")
    assert decalage("generate", "--streaming", "--model", str(mine), *prompt).json["policy"] == policy_name(policy)


def test_a_dry_run_writes_nothing(decalage: Decalage, mine: Path) -> None:
    """The table has wait-k and what was tried beside it."""
    before = (mine / "decalage.json").read_bytes()
    ran = decalage(
        "tune", "--model", str(mine), "--test", str(mine.parent / "valid.en-fr.tsv"), "--wait-k", "1", "--dry-run"
    )
    assert (mine / "decalage.json").read_bytes() == before
    assert "wait-1" in ran.out
    assert "adaptive-1-3-0.2" in ran.out
    assert "Best: " in ran.out


def test_a_set_without_a_language_is_refused(decalage: Decalage, mine: Path) -> None:
    """Before anything is translated."""
    (mine.parent / "valid.tsv").write_text(LINES, encoding="utf-8")
    ran = decalage("tune", "--model", str(mine), "--test", str(mine.parent / "valid.tsv"))
    assert ran.status == 1
    assert "--to" in ran.err


@pytest.mark.parametrize("policy", [Adaptive(min_k=2, max_k=6, threshold=0.4), WaitK(k=2)])
def test_the_card_decides_unless_the_session_does(decalage: Decalage, mine: Path, policy: Adaptive | WaitK) -> None:
    """`generate` follows the card, and its own options before it."""
    card = json.loads((mine / "decalage.json").read_text())
    kind = {"type": "wait-k", "k": policy.k} if isinstance(policy, WaitK) else {
        "type": "adaptive", "min_k": policy.min_k, "max_k": policy.max_k, "threshold": policy.threshold
    }  # fmt: skip
    (mine / "decalage.json").write_text(json.dumps(card | {"policy": kind}))
    options = ("generate", "--streaming", "--model", str(mine), "--to", "fr", "--prompt", "Good morning.", "--json")
    assert parse_policy(decalage(*options).json["policy"]) == policy
    assert decalage(*options, "--wait-k", "4").json["policy"] == "wait-4"


def test_a_card_with_a_policy_that_is_none(decalage: Decalage, mine: Path) -> None:
    """The error names the card and the field."""
    card = json.loads((mine / "decalage.json").read_text())
    (mine / "decalage.json").write_text(json.dumps(card | {"policy": {"type": "wait-k", "k": 0}}))
    ran = decalage("generate", "--streaming", "--model", str(mine), "--to", "fr", "--prompt", "Good morning.")
    assert ran.status == 1
    assert "decalage.json" in ran.err
    assert "policy" in ran.err
