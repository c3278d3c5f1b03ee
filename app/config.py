"""Settings: environment variables that start with PRECIS_. A wrong or unknown one ends start-up with one line."""

import difflib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError

PREFIX = "PRECIS_"
# How the command line finds a service, and what it shows there; they may stand in the same environment.
OF_CALLERS = ("PRECIS_URL", "PRECIS_API_KEY")
SECRET = ("api_keys", "limits_storage")  # not told back: by mistake a key may stand there, or a password
ORIGIN = r"\*|https?://[^/,\s]+"
LOWEST_MAX_ROWS = 8  # a search with the most beams must fit
LONGEST_TIMEOUT_MS = 600_000
JSON_BYTES_PER_CHARACTER = 12  # the longest way to write one code point in JSON: an escaped surrogate pair
UTF8_BYTES_PER_CHARACTER = 4
BODY_ALLOWANCE = 64 * 1024  # for everything in a body that is not text


class Settings(BaseSettings):
    """What an operator can choose. Passed to `create_app`; there is no global instance."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model_store: Path = Field(Path("model_store"), description="Folder of checkpoints.")
    model: str = Field("news-en", min_length=1, description="Name of the default checkpoint.")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto", description="Arithmetic of the model; auto is the fastest that the processor has."
    )
    cores: int | None = Field(None, ge=1, description="Cores that run the model, without a GPU; all, at most eight.")
    max_rows: int | None = Field(
        None, ge=LOWEST_MAX_ROWS, le=4096, description="Live decoder rows, beams count; 64 on CPU, 256 on a GPU."
    )
    max_queue: int = Field(1024, ge=1, description="Texts waiting, live ones not counted; beyond it 503.")
    max_queue_tokens: int = Field(262_144, ge=1, description="Source tokens that wait to be encoded; beyond it 503.")
    max_queue_rows: int = Field(4096, ge=1, description="Decoder rows that wait, beams count; beyond it 503.")
    max_queue_mb: int = Field(256, ge=1, description="Memory that waiting texts hold, about; beyond it 503.")
    max_batch_texts: int = Field(128, ge=1, description="Texts in one request; beyond it 413.")
    max_characters: int = Field(200_000, ge=1, description="Characters in one text; beyond it 413.")
    max_connections: int = Field(
        4096, ge=1, description="Connections at once; one beyond it gets one answer, mostly 503, and is closed."
    )
    max_transit_mb: int = Field(
        256, ge=1, description="Memory of large bodies being received, beyond it 503; and of answers not yet taken."
    )
    stall_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="A head, a body or an answer that stalls for so long ends its connection.",
    )
    timeout_ms: int = Field(60_000, ge=1, le=LONGEST_TIMEOUT_MS, description="Default deadline of a request.")
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="Grace for admitted work after SIGTERM.")
    api_keys_file: Path | None = Field(None, description="File of API keys, read again when it changes.")
    api_keys: str | None = Field(None, description="API keys, as in that file; a line may end with a semicolon.")
    public_pages: bool = Field(False, description="With API keys, serve the web page and /docs without one.")
    limits_storage: str = Field(
        "memory://",
        pattern=r"^(memory|rediss?)://",
        description="Where limits of keys are counted; redis:// is shared.",
    )
    cors_origins: str | None = Field(
        None, pattern=rf"^({ORIGIN})(,({ORIGIN}))*$", description="Web sites that may ask, with commas; * is every one."
    )
    web_page: bool = Field(True, description="Serve the web page at /; false answers 404 there.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json."
    )

    @field_validator("log_level", "log_format", "precision", "device", mode="before")
    @classmethod
    def in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("limits_storage")
    @classmethod
    def with_its_client(cls, uri: str) -> str:
        if not uri.startswith("memory") and find_spec("redis") is None:
            raise ValueError("needs the extra 'redis': pip install 'precis[redis]'")
        try:
            complete = uri.startswith("memory") or (urlsplit(uri).hostname and urlsplit(uri).port)
        except ValueError:  # it quotes what may be a part of a password
            complete = False
        if not complete:
            raise ValueError("must be like redis://:PASSWORD@HOST:6379, with %2F, %23, %40 for / # @ in the password")
        return uri

    @property
    def keys_on(self) -> bool:
        return self.api_keys is not None or self.api_keys_file is not None

    @property
    def origins(self) -> list[str]:
        """Of web sites whose scripts may ask."""
        return self.cors_origins.split(",") if self.cors_origins else []

    @property
    def max_body_bytes(self) -> int:
        """A body with one text of the greatest length always fits, however it is escaped."""
        return JSON_BYTES_PER_CHARACTER * self.max_characters + BODY_ALLOWANCE

    @property
    def max_batch_body_bytes(self) -> int:
        """As many texts of the greatest length as a batch may hold, in UTF-8, one of them escaped at worst."""
        return self.max_body_bytes + (self.max_batch_texts - 1) * UTF8_BYTES_PER_CHARACTER * self.max_characters


def load_settings(**chosen: object) -> Settings:
    """Settings from the environment, or ConfigurationError with one line that names every wrong variable.

    chosen: values by field that go before the environment's.
    """
    problems = [_unknown(name) for name in sorted(os.environ) if _is_unknown(name)]
    try:
        settings = Settings(**chosen)  # type: ignore[arg-type]  # they are validated
    except ValidationError as error:
        problems += [_wrong(str(each["loc"][0]), each["msg"], each["input"]) for each in error.errors()]
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


def let_waiting_threads_sleep() -> None:
    """Threads that spin while they wait starve the other work of the machine. Read once, when torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def variable(field: str) -> str:
    """Name of the environment variable of a setting."""
    return PREFIX + field.upper()


def _wrong(field: str, message: str, value: object) -> str:
    return f"{variable(field)}: {message}" + ("" if field in SECRET else f", not {str(value)!r}")


def _is_unknown(name: str) -> bool:
    return name.upper().startswith(PREFIX) and name.upper() not in (*_known(), *OF_CALLERS)


def _known() -> list[str]:
    return [variable(field) for field in Settings.model_fields]


def _unknown(name: str) -> str:
    closest = difflib.get_close_matches(name.upper(), _known(), n=1, cutoff=0.0)
    return f"{name} is not a setting; did you mean {closest[0]}?"
