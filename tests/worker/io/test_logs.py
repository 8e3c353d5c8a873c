"""What a worker logs."""

from collections.abc import Iterator

import pytest
import structlog

from worker.io import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("json", [True, False])
def test_an_exception_is_logged_without_local_variables(json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """One of them may be a password, or a URL with one."""

    def connect(password: str) -> None:
        raise ConnectionError("no answer")

    logs.configure(json=json)
    try:
        connect("".join(["s3", "cret"]))
    except ConnectionError:
        structlog.get_logger().error("failed", exc_info=True)
    shown = capsys.readouterr().err
    assert "no answer" in shown
    assert "connect" in shown
    assert "s3cret" not in shown
