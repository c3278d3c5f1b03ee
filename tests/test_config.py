import json
from pathlib import Path

import pytest

from app.config import Settings, load_settings, variable
from app.errors import ConfigurationError


def test_without_environment_every_setting_has_its_default() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (str(settings.model_store), settings.model) == ("model_store", "news-en")
    assert (settings.device, settings.precision, settings.max_rows) == ("auto", "auto", None)
    assert (settings.max_queue, settings.max_batch_texts, settings.max_characters) == (1024, 128, 200_000)
    assert (settings.max_queue_tokens, settings.max_queue_rows, settings.max_queue_mb) == (262_144, 4096, 256)
    assert (settings.timeout_ms, settings.drain_seconds) == (60_000, 30.0)


def test_a_variable_sets_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_MAX_QUEUE", "7")
    monkeypatch.setenv("PRECIS_DEVICE", "CUDA:1")
    settings = load_settings()
    assert settings.max_queue == 7
    assert settings.device == "cuda:1"


def test_what_is_chosen_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_PORT", "1")
    monkeypatch.setenv("PRECIS_MAX_QUEUE", "7")
    settings = load_settings(port="2")
    assert (settings.port, settings.max_queue) == (2, 7)


def test_the_variables_of_callers_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_URL", "http://127.0.0.1:8000")
    monkeypatch.setenv("PRECIS_API_KEY", "of the caller")
    assert load_settings() == Settings()


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "http"),
        ("port", "65536"),
        ("port", "-1"),
        ("device", "tpu"),
        ("device", "cuda:"),
        ("precision", "int4"),
        ("max_rows", "7"),
        ("max_queue", "0"),
        ("max_queue_tokens", "0"),
        ("max_queue_rows", "0"),
        ("max_queue_mb", "0"),
        ("max_batch_texts", "0"),
        ("max_characters", "1.5"),
        ("timeout_ms", "0"),
        ("timeout_ms", "600001"),
        ("drain_seconds", "nan"),
        ("drain_seconds", "-1"),
        ("public_pages", "perhaps"),
        ("cors_origins", "news.example"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "https://a.example, https://b.example"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    monkeypatch.setenv(variable(field), value)
    with pytest.raises(ConfigurationError, match=f"^{variable(field)}: ") as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_wrong_value_that_may_hold_a_secret_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_LIMITS_STORAGE", "memcached://:s3cret@cache")
    with pytest.raises(ConfigurationError, match=r"^PRECIS_LIMITS_STORAGE: ") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


def test_redis_without_its_client_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_LIMITS_STORAGE", "redis://127.0.0.1:6379")
    assert load_settings().limits_storage.startswith("redis://")
    monkeypatch.setattr("app.config.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match="the extra 'redis'"):
        load_settings()


@pytest.mark.parametrize("origins", ["*", "https://a.example", "https://a.example,http://127.0.0.1:3000"])
def test_web_sites_are_listed_with_commas(origins: str) -> None:
    assert Settings(cors_origins=origins).origins == origins.split(",")
    assert Settings().origins == []


def test_keys_are_on_when_a_setting_says_that_there_are_any() -> None:
    every = (Settings(), Settings(api_keys="x"), Settings(api_keys_file=Path("keys")))
    assert [settings.keys_on for settings in every] == [False, True, True]


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [("PRECIS_PROT", "PRECIS_PORT"), ("PRECIS_MAXROWS", "PRECIS_MAX_ROWS"), ("precis_x", "PRECIS_")],
)
def test_an_unknown_variable_is_named_with_the_closest_known_one(
    monkeypatch: pytest.MonkeyPatch, unknown: str, meant: str
) -> None:
    monkeypatch.setenv(unknown, "1")
    with pytest.raises(ConfigurationError, match=f"^{unknown} is not a setting; did you mean {meant}"):
        load_settings()


def test_everything_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECIS_PORT", "x")
    monkeypatch.setenv("PRECIS_MAX_QUEUE", "x")
    monkeypatch.setenv("PRECIS_NOTHING", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert all(name in str(caught.value) for name in ("PRECIS_PORT", "PRECIS_MAX_QUEUE", "PRECIS_NOTHING"))


def test_the_longest_text_fits_in_a_body_however_it_is_escaped() -> None:
    settings = Settings(max_characters=10, max_batch_texts=3)
    assert settings.max_body_bytes >= len('{"text":""}') + 10 * len("\\ud83d\\ude00")


@pytest.mark.parametrize("character", ["a", "é", "中", "😀"])
def test_the_largest_batch_fits_in_a_body_as_it_is_written(character: str) -> None:
    settings = Settings(max_characters=20_000, max_batch_texts=30)
    texts = [character * settings.max_characters] * settings.max_batch_texts
    assert len(json.dumps({"texts": texts}, ensure_ascii=False).encode()) <= settings.max_batch_body_bytes


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
