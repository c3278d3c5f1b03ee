import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.config import Settings
from app.logs import configure_logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logs are set up for the whole process: put back what was there."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    handlers, levels = root.handlers[:], (root.level, uvicorn.level)
    root.handlers.clear()  # so that they are not closed
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    uvicorn.setLevel(levels[1])
    structlog.reset_defaults()


def test_an_event_is_one_line_of_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"))
    structlog.get_logger("test").info("request", route="/summarize", status=200, error=None)
    output = capsys.readouterr()
    (line,) = output.out.splitlines()
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "request", "level": "info", "route": "/summarize", "status": 200}
    assert output.err == ""


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"))
    logging.getLogger("library").warning("%s happened", "it")
    fields = json.loads(capsys.readouterr().out)
    assert (fields["event"], fields["logger"], fields["level"]) == ("it happened", "library", "warning")


def test_what_is_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json", log_level="warning"))
    structlog.get_logger("test").info("quiet")
    structlog.get_logger("test").warning("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["loud"]


def test_for_people_a_line_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="console"))
    structlog.get_logger("test").info("listening", port=8000)
    output = capsys.readouterr().out
    assert "listening" in output
    with pytest.raises(json.JSONDecodeError):
        json.loads(output)


def test_without_a_terminal_auto_means_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="auto"))
    structlog.get_logger("test").info("listening")
    assert json.loads(capsys.readouterr().out)["event"] == "listening"
