import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.config import Settings
from app.logs import Output, configure_logs


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


def test_an_event_is_one_line_of_json_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"))
    structlog.get_logger("test").info("request", route="/summarize", status=200, error=None)
    output = capfd.readouterr()
    (line,) = output.out.splitlines()
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "request", "level": "info", "route": "/summarize", "status": 200}
    assert output.err == ""


def test_libraries_log_in_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json"))
    logging.getLogger("library").warning("%s happened", "it")
    fields = json.loads(capfd.readouterr().out)
    assert (fields["event"], fields["logger"], fields["level"]) == ("it happened", "library", "warning")


def test_what_is_below_the_level_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="json", log_level="warning"))
    structlog.get_logger("test").info("quiet")
    structlog.get_logger("test").warning("loud")
    assert [json.loads(line)["event"] for line in capfd.readouterr().out.splitlines()] == ["loud"]


def test_for_people_a_line_is_plain(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="console"))
    structlog.get_logger("test").info("listening", port=8000)
    output = capfd.readouterr().out
    assert "listening" in output
    with pytest.raises(json.JSONDecodeError):
        json.loads(output)


def test_without_a_terminal_auto_means_json(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="auto"))
    structlog.get_logger("test").info("listening")
    assert json.loads(capfd.readouterr().out)["event"] == "listening"


def test_what_cannot_be_written_is_dropped_and_what_comes_later_is_not(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert Output(full.fileno()).write(b"lost") == 4
    with (tmp_path / "log").open("wb") as file:
        Output(file.fileno()).write(b"kept")
    assert (tmp_path / "log").read_bytes() == b"kept"


def test_a_reader_who_does_not_read_is_not_waited_for_until_it_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.logs.READER_SECONDS", 0.01)
    reader, writer = os.pipe()
    try:
        output = Output(writer)
        for _ in range(1000):
            output.write(b"x" * 1000)  # many times what a pipe holds
        held = os.read(reader, 10_000_000)
        assert 0 < len(held) < 1_000_000
        output.write(b"again")
        assert os.read(reader, 10_000_000) == b"again"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reader_who_has_gone_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Output(writer).write(b"lost")
    os.close(writer)


def test_a_long_line_arrives_whole() -> None:
    reader, writer = os.pipe()
    line = b"x" * 50_000
    Output(writer).write(line)
    os.close(writer)
    with open(reader, "rb") as read:
        assert read.read() == line
