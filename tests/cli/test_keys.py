"""`precis keys new`: a key is told once, and never where it would be kept."""

from pathlib import Path

import pytest

from app.keys import Keys, parse_line
from tests.cli.conftest import Precis, served


def test_the_line_goes_to_standard_output_and_the_key_to_standard_error_alone(precis: Precis) -> None:
    result = precis("keys", "new", "desk")
    assert result.exit_code == 0
    key = result.stderr.split()[-1]
    assert key.startswith("precis_")
    assert result.stderr == f"precis: the key of desk, told only now: {key}\n"
    assert key not in result.stdout
    assert result.stdout.count("\n") == 1


def test_what_it_makes_lets_its_owner_in(precis: Precis, tmp_path: Path) -> None:
    made = [precis("keys", "new", "desk"), precis("keys", "new", "operations", "--admin")]
    file = tmp_path / "keys"
    file.write_text("".join(each.stdout for each in made), encoding="utf-8")
    found = [Keys(None, file).find(each.stderr.split()[-1].encode()) for each in made]
    assert [(key and key.name, key and key.admin) for key in found] == [("desk", False), ("operations", True)]


def test_limits_stand_in_the_line(precis: Precis) -> None:
    line = precis("keys", "new", "slow", "--requests", 60, "--characters", 500000).stdout
    key = parse_line(line.strip())
    assert (key.requests, key.characters, key.admin) == (60, 500_000, False)


def test_no_two_keys_are_the_same(precis: Precis) -> None:
    assert len({precis("keys", "new", "desk").stdout for _ in range(5)}) == 5


@pytest.mark.parametrize("arguments", [["a b"], [""], ["é"], ["desk", "--requests", "0"], []], ids=str)
def test_a_wrong_name_or_limit_is_status_2_and_makes_nothing(precis: Precis, arguments: list[str]) -> None:
    result = precis("keys", "new", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "precis_" not in result.stderr


def test_a_service_that_wants_a_key_takes_it_from_the_option_or_the_environment(
    precis: Precis, environment: dict[str, str], tmp_path: Path
) -> None:
    made = precis("keys", "new", "desk")
    key = made.stderr.split()[-1]
    (tmp_path / "text").write_text("The council approved a bridge.", encoding="utf-8")
    with served(tmp_path, {**environment, "PRECIS_API_KEYS": made.stdout}) as url:
        for command in (["summarize", tmp_path / "text"], ["attention", tmp_path / "text"], ["models", "list"]):
            refused = precis(*command, "--url", url)
            assert (refused.exit_code, refused.stdout) == (1, "")
            assert "401: send an API key that counts here" in refused.stderr
            assert precis(*command, "--url", url, "--api-key", key).exit_code == 0
            assert precis(*command, "--url", url, env={"PRECIS_API_KEY": key}).exit_code == 0


def test_a_key_that_cannot_be_sent_is_not_told_back(precis: Precis) -> None:
    result = precis("models", "list", "--url", "http://127.0.0.1:1", "--api-key", "s3cret\n")
    assert result.exit_code == 2
    assert "s3cret" not in result.stderr
