"""API keys: lines, files that change, and nothing that quotes a key."""

import hashlib
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.errors import ConfigurationError
from app.keys import Key, Keys, Ring, digest, new_key, open_keys, parse_line

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
AMOUNTS = st.none() | st.integers(1, 10**12 - 1)
KEYS = st.builds(Key, NAMES, st.binary(min_size=32, max_size=32), st.booleans(), AMOUNTS, AMOUNTS)
HEX = hashlib.sha256(b"secret").hexdigest()


def line(name: str, key: str, more: str = "") -> str:
    return f"{name} user sha256:{hashlib.sha256(key.encode()).hexdigest()} {more}"


def write(path: Path, *lines: str) -> None:
    """As whoever changes it should: at once."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines), encoding="utf-8")
    os.replace(new, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    write(path, "# who may ask", "", line("one", "first"), line("two", "second", "requests=5 # slow"))
    return path


@given(KEYS)
def test_a_line_says_all_of_a_key(key: Key) -> None:
    assert parse_line(str(key)) == key


def test_new_keys_are_256_random_bits_that_any_header_can_carry() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("precis_")
        assert len(key) == len("precis_") + 43
        assert key.isascii()
        assert not set(key) & set(' \t"\\,;')


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("one", "role"),
        ("one root sha256:", "role"),
        ("a/b user", "name"),
        ("é user", "name"),
        (f"{'x' * 65} user", "name"),
        ("one user", "sha256:"),
        ("one user precis_by_mistake", "sha256:"),
        ("one user sha256:abc", "sha256:"),
        (f"one user sha256:{HEX.upper()}", "sha256:"),
        (f"one user sha256:{HEX} requests=0", "after the digest"),
        (f"one user sha256:{HEX} requests=1.5", "after the digest"),
        (f"one user sha256:{HEX} requests=1 requests=2", "after the digest"),
        (f"one user sha256:{HEX} tokens=5", "after the digest"),
        (f"one user sha256:{HEX} precis_by_mistake", "after the digest"),
    ],
)
def test_a_wrong_line_is_told_and_never_quoted(wrong: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        parse_line(wrong)
    assert "mistake" not in str(caught.value)


@given(st.text(max_size=200))
def test_whatever_a_file_holds_its_right_lines_count_and_the_others_are_told(text: str) -> None:
    ring = Ring.read([("here", f"{text}\n{line('safe.and-sound', 'secret')}")])
    assert len(ring.keys) == 1
    assert all(problem.startswith("here, line ") for problem in ring.problems)


@pytest.mark.parametrize("twice", [line("one", "other"), line("other", "first")])
def test_of_two_keys_with_one_name_or_one_digest_the_first_counts(twice: str) -> None:
    ring = Ring.read([("here", f"{line('one', 'first')}\n{twice}")])
    assert [key.name for key in ring.keys.values()] == ["one"]
    assert ring.keys.keys() == {digest(b"first")}
    assert len(ring.problems) == 1


def test_keys_of_the_environment_and_of_the_file_count_together(path: Path) -> None:
    keys = Keys(f"{line('three', 'third')}; {line('four', 'fourth', 'characters=9')}", path)
    found = [keys.find(sent) for sent in (b"first", b"second", b"third", b"fourth", b"fifth")]
    assert [key and key.name for key in found] == ["one", "two", "three", "four", None]
    assert [key and key.requests for key in found] == [None, 5, None, None, None]


@pytest.mark.parametrize("sent", [b"", b"First", b"first ", b"first\n", HEX.encode(), b"\xff", b"x" * 100_000])
def test_nothing_but_the_very_key_counts(path: Path, sent: bytes) -> None:
    assert Keys(None, path).find(sent) is None


def test_without_settings_keys_are_off(path: Path) -> None:
    assert open_keys(None, None) is None
    assert open_keys(None, path) is not None


def test_a_key_is_revoked_and_another_one_made_by_changing_the_file(path: Path) -> None:
    keys = Keys(None, path)
    assert keys.find(b"first")
    write(path, line("two", "second"), line("three", "third"))
    assert [bool(keys.find(sent)) for sent in (b"first", b"second", b"third")] == [False, True, True]
    path.write_text(line("two", "second"), encoding="utf-8")  # in place
    assert [bool(keys.find(sent)) for sent in (b"second", b"third")] == [True, False]


def test_a_key_is_revoked_though_another_line_is_wrong(path: Path) -> None:
    keys = Keys(None, path)
    with capture_logs() as logged:
        write(path, "two user precis_by_mistake", line("three", "third"))
        assert [bool(keys.find(sent)) for sent in (b"first", b"second", b"third")] == [False, False, True]
        keys.find(b"first")
    assert [(each["event"], each["log_level"]) for each in logged] == [("keys read", "info"), ("key left out", "error")]
    assert "line 1" in logged[1]["reason"]
    assert "mistake" not in str(logged)


def test_while_the_file_cannot_be_read_the_keys_read_last_hold(path: Path) -> None:
    keys = Keys(None, path)
    with capture_logs() as logged:
        path.unlink()
        assert keys.find(b"first")
        assert keys.find(b"second")
        path.write_bytes(b"\xff")
        assert keys.find(b"first")
        write(path, line("two", "second"))
        assert keys.find(b"first") is None
    assert [each["event"] for each in logged] == ["the keys cannot be read again; those read last hold", "keys read"]


def test_an_empty_file_lets_nobody_in(path: Path) -> None:
    keys = Keys(None, path)
    write(path, "# all revoked")
    assert keys.find(b"first") is None


def test_at_the_start_everything_must_be_right(tmp_path: Path, path: Path) -> None:
    for lines, file, told in [
        (None, tmp_path / "nothing", "PRECIS_API_KEYS_FILE: .*No such file"),
        (None, tmp_path, "PRECIS_API_KEYS_FILE: .*Is a directory"),
        ("one user precis_by_mistake", None, "PRECIS_API_KEYS, line 1: the third word"),
        (line("one", "other"), path, "line 3: a key before it has the same name"),
        ("# nobody", None, "there is none; 'precis keys new NAME' makes one"),
    ]:
        with pytest.raises(ConfigurationError, match=told) as caught:
            Keys(lines, file)
        assert "\n" not in str(caught.value)
        assert "mistake" not in str(caught.value)


def test_the_lines_and_the_key_of_the_document_belong_together() -> None:
    text = (Path(__file__).parents[1] / "docs" / "access.md").read_text(encoding="utf-8")
    ((_, shown),) = ((line, line.split()[-1]) for line in text.splitlines() if line.startswith("precis: the key of "))
    (lines,) = (block for block in re.findall(r"```text\n(.*?)```", text, flags=re.S) if "sha256:" in block)
    ring = Ring.read([("the document", lines)])
    assert ring.problems == ()
    assert sorted(key.admin for key in ring.keys.values()) == [False, True]
    assert ring.keys[digest(shown.encode())].name == "news-desk"
