"""The JSON of the API: what callers send, strict and closed, and what they get, open to fields added later.

Only pydantic: the client knows this file and nothing else. Limits that an operator or a checkpoint sets are not
here; they are checked where they are known. Every model has an example that really works.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from app.examples import EXAMPLES

JsonObject = dict[str, Any]


def _add_example(schema: JsonObject, model: type[BaseModel]) -> None:
    if model.__name__ in EXAMPLES:
        schema["examples"] = [EXAMPLES[model.__name__]]


def _readable(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty or blank")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "holds a lone surrogate, which is no Unicode character") from None
    return text


def _not_streamed(stream: bool) -> bool:
    if stream:
        raise PydanticCustomError("not_available", "a batch is not streamed; leave it out or send false")
    return stream


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a string")
    return value


Text = Annotated[str, AfterValidator(_readable), WithJsonSchema({"type": "string", "minLength": 1})]
# A text of a batch may be wrong in its own place, so that only its type is checked here.
AnyText = Annotated[str, PlainValidator(_string), WithJsonSchema({"type": "string"})]
Truncation = Literal["head", "error", "chunk"]
FinishReason = Literal["stop", "length", "given"]


class Sent(BaseModel):
    """Base of what callers send: no conversions, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra=_add_example)


class Parameters(Sent):
    """How the summary is searched for. What is left out takes the default of the checkpoint; see `GET /models`."""

    num_beams: int | None = Field(None, ge=1, le=8, description="Hypotheses that are followed at once; 1 is greedy.")
    max_length: int | None = Field(None, ge=1, description="Most tokens of the summary, end token not counted.")
    min_length: int | None = Field(None, ge=0, description="Fewest tokens of the summary.")
    length_penalty: float | None = Field(
        None, ge=-10, le=10, allow_inf_nan=False, description="Above 0 favours longer summaries, below 0 shorter ones."
    )
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, le=100, description="No sequence of so many tokens occurs twice; 0 allows all."
    )
    numbers_from_source: bool | None = Field(
        None,
        description="Write no number in digits, and no name with digits (Q1), but those of the text, each as a whole "
        "and in its own form.",
    )


class Options(Sent):
    """What every request may choose."""

    model: str | None = Field(None, min_length=1, description="Name of a model; the default one when left out.")
    parameters: Parameters = Field(default_factory=Parameters, description="How the summary is searched for.")
    truncation: Truncation = Field(
        "head",
        description="When the text is too long for the model: `head` keeps its beginning, `error` answers 422, `chunk` "
        "summarizes every part of it, in order.",
    )
    timeout_ms: int | None = Field(
        None, ge=1, le=600_000, description="Deadline of this request in milliseconds; the service's own when left out."
    )


class SummarizeRequest(Options):
    """One text to summarize."""

    text: Text = Field(description="The text to summarize.")
    stream: bool = Field(
        False, description="Tell the summary as server-sent events while it is written, with one beam."
    )


class BatchRequest(Options):
    """Several texts to summarize, all with the same options."""

    stream: Annotated[bool, AfterValidator(_not_streamed), WithJsonSchema({"type": "boolean", "const": False})] = Field(
        False, description="A batch is not streamed: only `false`."
    )
    texts: Annotated[list[AnyText], FailFast()] = Field(
        min_length=1, description="The texts to summarize. One that is wrong is an error in its own place."
    )


class AttentionRequest(Options):
    """One text to summarize, or a given summary of it, and how its attention is told."""

    text: Text = Field(description="The text to summarize.")
    summary: Text | None = Field(None, description="Tell the attention of this summary instead of a generated one.")
    level: Literal["token", "word"] = Field(
        "token",
        description="Rows and columns are the model's tokens, or words: those of Unicode (UAX #29) as ICU finds them, "
        "with its dictionary for Chinese.",
    )
    format: Literal["dense", "top"] = Field("dense", description="The whole matrix, or each row's largest weights.")
    top_k: int = Field(5, ge=1, le=1000, description="How many weights a row has with `format: top`.")
    precision: int = Field(5, ge=1, le=8, description="Decimals of weights, log-probabilities and coverage.")

    @field_validator("summary")
    @classmethod
    def is_of_the_whole_text(cls, summary: str | None, info: ValidationInfo) -> str | None:
        if summary is not None and info.data.get("truncation") == "chunk":
            raise PydanticCustomError("chunk", "a given summary cannot be used with truncation 'chunk'")
        return summary


class Answered(BaseModel):
    """Base of what callers get. Fields are only ever added, so unknown ones are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, json_schema_extra=_add_example)


class FieldProblem(Answered):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer into the body; empty for the body as a whole.")
    message: str = Field(description="What is wrong there.")


class Problem(Answered):
    """An error (RFC 9457). `error` repeats `detail`, because some clients print only that."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str
    error_type: str
    errors: list[FieldProblem]
    request_id: str


class Range(Answered):
    """Half-open range `[start, end)` of Unicode code points."""

    start: int
    end: int


class ModelRef(Answered):
    """Which checkpoint answered."""

    name: str
    digest: str


class SourceUse(Answered):
    """What part of the text was used. Nothing is cut silently."""

    characters: int
    tokens: int
    used_characters: int
    used_tokens: int
    truncated: bool


class Usage(Answered):
    """Tokens that were read and written."""

    source_tokens: int
    summary_tokens: int


class Timing(Answered):
    """Milliseconds: waiting, encoding, decoding, and from submission to the end."""

    queue_ms: float
    encode_ms: float
    decode_ms: float
    total_ms: float


class Part(Answered):
    """One part of a long text and the piece of the summary that it became."""

    source: Range
    summary: Range
    score: float
    finish_reason: FinishReason


class Summary(Answered):
    """A summary, and how it came about."""

    id: str
    model: ModelRef
    summary: str
    finish_reason: FinishReason = Field(
        description="`stop`: the model ended the summary; `length`: cut at `max_length`; `given`: by the caller."
    )
    score: float = Field(description="Mean log-probability of a token, end token included.")
    source: SourceUse
    usage: Usage
    timing: Timing
    parts: list[Part] | None = Field(None, description="Only with `truncation: chunk`.")


class WeightedRange(Range):
    """A span of the text that a token of the summary looked at."""

    weight: float


class TokenEvent(Range):
    """One token, while it is streamed: `text` is the piece `[start, end)` of the summary that it made certain.

    All pieces together are the summary. A piece is empty where nothing is certain yet: amid a character, a number, or
    white space at the edge.
    """

    text: str
    log_probability: float
    sources: list[WeightedRange] = Field(
        description="The spans with the largest attention weights, largest first; at most 5."
    )


class BatchFailure(Answered):
    """In the place of a text that could not be summarized."""

    error: Problem


class BatchResponse(Answered):
    """One result for each text, in order."""

    results: list[Summary | BatchFailure]


class SourceItem(Answered):
    """A column: a token or word of the text; `text` is its `[start, end)`."""

    text: str
    start: int
    end: int


class SummaryItem(SourceItem):
    """A row: a token or word of the summary. `copied` is absent when the model cannot copy."""

    log_probability: float
    copied: float | None = Field(None, description="Share of the probability that came from copying.")


class TopWeight(Answered):
    """One of the largest weights of a row; `source` is the number of its column."""

    source: int
    weight: float


class Attention(Answered):
    """One row for each item of the summary, one column for each item of the text; rows sum to 1."""

    source_tokens: list[SourceItem]
    summary_tokens: list[SummaryItem]
    weights: list[list[float]] | None = Field(None, description="Only with `format: dense`.")
    top: list[list[TopWeight]] | None = Field(None, description="Only with `format: top`; largest first.")
    coverage: list[float] = Field(description="Sum of each column.")


class AttentionResponse(Summary):
    """A summary and the attention that produced it."""

    attention: Attention


class ModelLimits(Answered):
    """What a model can take."""

    max_source_tokens: int
    max_summary_tokens: int
    max_beams: int


class DefaultParameters(Answered):
    """What a model uses for parameters that are left out."""

    num_beams: int
    max_length: int
    min_length: int
    length_penalty: float
    no_repeat_ngram_size: int
    numbers_from_source: bool


class Model(Answered):
    """A model that is loaded."""

    name: str
    family: str
    language: str
    description: str
    digest: str
    limits: ModelLimits
    default_parameters: DefaultParameters
    parameter_count: int
    precision: str
    device: str
    card: str = Field(description="The model card, in Markdown.")


class ModelList(Answered):
    """The models that are loaded and the name of the default one."""

    default: str
    models: list[Model]


class Health(Answered):
    """The service is well."""

    status: Literal["ok"]
