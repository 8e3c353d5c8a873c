"""`decalage bench decode`."""

from pathlib import Path

import pytest

from tests.worker.commands.bench.conftest import Once
from tests.worker.commands.conftest import Decalage
from tests.worker.evaluation.test_curve import pixels
from worker.commands.bench import decode_loop as loop
from worker.commands.bench.stages import STAGES


@pytest.mark.usefixtures("with_model")
def test_decoding_by_number_of_sessions(decalage: Decalage, once: Once, tmp_path: Path) -> None:
    """Each number of sessions has mlx-lm's speed in the same run beside ours, and a pass's time by its stages."""
    once(loop)
    options = ("bench", "decode", "--rows", "1", "3", "--steps", "2", "--source", "4")
    report = decalage(*options, "--json").json
    assert report["model"]["name"] == "starter"
    assert report["model"]["weights"] == "trained"
    assert {"kind", "cores", "library", "versions"} <= report["machine"].keys()
    assert [point["rows"] for point in report["points"]] == [1, 3]
    for point in report["points"]:
        assert point["ratio"] == pytest.approx(point["tokens_per_s"] / point["mlx_lm_tokens_per_s"], rel=0.01)
        assert point["stages_ms"].keys() == set(STAGES)
        assert min(point["stages_ms"][stage] for stage in ("batch", "graph", "evaluation")) > 0
    picture = tmp_path / "decode.png"
    ran = decalage(*options, "--plot", str(picture))
    assert "mlx-lm" in ran.out
    assert "evaluation" in ran.out
    assert str(picture) in ran.err.replace("\n", "")
    assert pixels(picture.read_bytes()) == (1080, 690)


def test_a_shape_has_random_weights(decalage: Decalage, tiny_shape: str) -> None:
    """Which the title tells."""
    ran = decalage("bench", "decode", "--shape", tiny_shape, "--rows", "2", "--steps", "1")
    assert "smollm2-135m (0.3 M parameters, float32, random weights)" in ran.out
