"""`precis serve`: every setting is an option, and the service is that of `python -m app`."""

from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from app.cli.command import app
from app.config import Settings, variable
from tests.cli.conftest import Precis, served


def test_every_setting_is_an_option_with_its_variable() -> None:
    help_text = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["serve", "--help"]).stdout
    for name, field in Settings.model_fields.items():
        (line,) = (line for line in help_text.splitlines() if f"│ --{name.replace('_', '-')} " in line)
        assert variable(name) in line
        assert str(field.description) in line
        assert field.default is None or f"default: {field.default}" in line


def test_an_option_goes_before_its_variable(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = {**environment, "PRECIS_MAX_CHARACTERS": "5", "PRECIS_MODEL": "nothing"}
    with served(tmp_path, settings, "--max-characters", "20", "--model", "small") as url:
        answers = [httpx2.post(f"{url}/summarize", json={"text": "x" * length}) for length in (20, 21)]
    assert [answer.status_code for answer in answers] == [200, 413]
    assert answers[0].json()["model"]["name"] == "small"


@pytest.mark.parametrize("option", ["--port=http", "--precision=int4", "--max-queue=0"])
def test_a_wrong_option_is_told_as_its_setting(precis: Precis, option: str) -> None:
    result = precis("serve", option)
    name, value = option.removeprefix("--").replace("-", "_").split("=")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"precis: {variable(name)}: ")
    assert result.stderr.endswith(f"not {value!r}\n")
