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
    TypeAdapter,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo
from typing_extensions import TypeAliasType

from app.examples import EXAMPLES

JsonObject = dict[str, Any]


def _describe(schema: JsonObject, model: type[BaseModel]) -> None:
    """With its example, and as generators of clients like it: no titles that repeat the names of fields, and no unions
    of null and something with limits, of which they would make types with names of their own."""
    for field in schema["properties"].values():
        field.pop("title", None)
        match field.get("anyOf"):
            case [{"type": str(kind), **limits}, {"type": "null"}]:
                del field["anyOf"]
                field.update(limits, type=[kind, "null"])
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


def _text_or_texts(value: object) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _ANY_TEXTS.validate_python(value)
    raise PydanticCustomError("text_or_texts_type", "must be a string or an array of strings")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a string")
    return value


def _true_false_or_never(value: object) -> object:
    if isinstance(value, bool) or value == "never":
        return value
    raise PydanticCustomError("early_stopping", 'must be true, false or "never"')


Text = Annotated[str, AfterValidator(_readable), WithJsonSchema({"type": "string", "minLength": 1})]
# A text of a batch may be wrong in its own place, so that only its type is checked here.
AnyText = Annotated[str, PlainValidator(_string), WithJsonSchema({"type": "string"})]
AnyTexts = Annotated[list[AnyText], FailFast(), Field(min_length=1)]
_ANY_TEXTS: TypeAdapter[list[str]] = TypeAdapter(AnyTexts)
TextOrTexts = Annotated[
    str | list[str],
    PlainValidator(_text_or_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Absent = SkipJsonSchema[None]  # what may be left out of an answer is never null in it

# Aliases of this kind keep their names in the document, so that a generator makes one type of each.
Truncation = TypeAliasType(
    "Truncation",
    Annotated[
        Literal["head", "error", "chunk"],
        Field(
            description="When the text is too long for the model: `head` keeps its beginning, `error` answers 422, "
            "`chunk` summarizes every part of it, in order.",
            examples=["head"],
        ),
    ],
)
HuggingFaceTruncation = TypeAliasType(
    "HuggingFaceTruncation",
    Annotated[
        Literal["do_not_truncate", "longest_first", "only_first", "only_second", "head", "error", "chunk"],
        Field(
            description="`do_not_truncate` is `error`; `longest_first`, `only_first` and `only_second` are `head`. "
            "`head`, `error` and `chunk` are those of `/summarize`.",
            examples=["longest_first"],
        ),
    ],
)
EarlyStopping = TypeAliasType(
    "EarlyStopping",
    Annotated[
        bool | Literal["never"],
        PlainValidator(_true_false_or_never),
        WithJsonSchema(
            {
                "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^never$"}],
                "description": "When several beams stop, once as many summaries have ended: `true`: at once; `false`: "
                "when none that goes on is better by then; `never`: when none could still become better.",
                "examples": [False],
            }
        ),
    ],
)
FinishReason = TypeAliasType(
    "FinishReason",
    Annotated[
        Literal["stop", "length", "given"],
        Field(
            description="`stop`: the model ended the summary; `length`: cut at `max_length`; `given`: by the caller.",
            examples=["stop"],
        ),
    ],
)
Decoding = TypeAliasType(
    "Decoding",
    Annotated[
        Literal["batched", "unbatched"],
        Field(
            description="`batched`: a decoder step advances all live texts at once. `unbatched`: there is no such step "
            "for this architecture, and the code of Hugging Face steps one text after the other: nothing else is "
            "different, but texts that are live at once take as long as one by one.",
            examples=["batched"],
        ),
    ],
)
AttentionLevel = TypeAliasType(
    "AttentionLevel",
    Annotated[
        Literal["token", "word"],
        Field(
            description="Rows and columns are the model's tokens, or words: those of Unicode (UAX #29) as ICU finds "
            "them, with its dictionary for Chinese.",
            examples=["word"],
        ),
    ],
)
AttentionFormat = TypeAliasType(
    "AttentionFormat",
    Annotated[
        Literal["dense", "top"],
        Field(description="`dense`: the whole matrix; `top`: each row's largest weights.", examples=["top"]),
    ],
)
AttentionReduction = TypeAliasType(
    "AttentionReduction",
    Annotated[
        Literal["mean", "max"],
        Field(
            description="How several heads become one: `mean` averages their weights, `max` takes the largest for each "
            "token and divides by the sum.",
            examples=["mean"],
        ),
    ],
)
Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Sent(BaseModel):
    """Base of what callers send: no conversions, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra=_describe)


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
    repetition_penalty: float | None = Field(
        None,
        ge=1,
        le=10,
        allow_inf_nan=False,
        description="Above 1 makes tokens that the summary has already less likely.",
    )
    early_stopping: EarlyStopping | None = Field(None, description="When several beams stop.")


class Options(Sent):
    """What every request may choose."""

    model: str | None = Field(None, min_length=1, description="Name of a model; the default one when left out.")
    parameters: Parameters = Field(default_factory=Parameters, description="How the summary is searched for.")
    truncation: Truncation = "head"
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
    texts: AnyTexts = Field(description="The texts to summarize. One that is wrong is an error in its own place.")


class AttentionRequest(Options):
    """One text to summarize, or a given summary of it, and how its attention is told."""

    text: Text = Field(description="The text to summarize.")
    summary: Text | None = Field(None, description="Tell the attention of this summary instead of a generated one.")
    level: AttentionLevel = "token"
    format: AttentionFormat = "dense"
    top_k: int = Field(5, ge=1, le=1000, description="How many weights a row has with `format: top`.")
    layers: Numbers | None = Field(
        None, description="Layers of the decoder, counted from 0, whose attention is told; see `GET /models`."
    )
    heads: Numbers | None = Field(None, description="Heads of these layers, counted from 0; see `GET /models`.")
    reduce: AttentionReduction = "mean"
    drop_sinks: bool = Field(
        False, description="Take the weight off punctuation, where it often means nothing; rows sum to 1 without it."
    )
    precision: int = Field(5, ge=1, le=8, description="Decimals of weights, log-probabilities and coverage.")

    @field_validator("summary")
    @classmethod
    def is_of_the_whole_text(cls, summary: str | None, info: ValidationInfo) -> str | None:
        if summary is not None and info.data.get("truncation") == "chunk":
            raise PydanticCustomError("chunk", "a given summary cannot be used with truncation 'chunk'")
        return summary


class HuggingFaceGenerateParameters(Parameters):
    """Those of Hugging Face's `generate` that are known here; any other is ignored."""

    model_config = ConfigDict(extra="ignore")


class HuggingFaceParameters(HuggingFaceGenerateParameters):
    """Parameters of Hugging Face's summarization task. The model's own may stand here or in `generate_parameters`,
    which wins. `clean_up_tokenization_spaces` and all that is not known are ignored."""

    truncation: HuggingFaceTruncation | None = Field(None, description="`head` when left out.")
    generate_parameters: HuggingFaceGenerateParameters | None = Field(
        None, description="How the summary is searched for."
    )


class HuggingFaceRequest(Sent):
    """Hugging Face's summarization task: one text or several. Fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore")

    inputs: TextOrTexts = Field(description="The text to summarize, or several.")
    parameters: HuggingFaceParameters | None = Field(None, description="How they are summarized.")


class Answered(BaseModel):
    """Base of what callers get. Fields are only ever added, so unknown ones are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, json_schema_extra=_describe)


class FieldProblem(Answered):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer into the body; empty for the body as a whole.")
    message: str = Field(description="What is wrong there.")


class Problem(Answered):
    """An error (RFC 9457). `error` repeats `detail`, because some clients print only that."""

    type: str = Field(description="What kind of error it is, as a URN: `urn:precis:problem:` and `error_type`.")
    title: str = Field(description="The kind of error in words, the same for all of its kind.")
    status: int = Field(description="The status of the answer; in a batch, of this text alone.")
    detail: str = Field(description="What was wrong with this request, and what to do.")
    instance: str = Field(description="Path of the request.")
    error: str = Field(description="The same as `detail`.")
    error_type: str = Field(description="The kind of error in one word; new ones may be added.")
    errors: list[FieldProblem] = Field(description="The fields that are wrong, if it is fields.")
    request_id: str = Field(description="The `X-Request-ID` of the request, which is in the log too.")


class Range(Answered):
    """Half-open range `[start, end)` of Unicode code points."""

    start: int = Field(description="The first code point.")
    end: int = Field(description="The one after the last.")


class ModelRef(Answered):
    """Which checkpoint answered."""

    name: str = Field(description="Name of the model.")
    digest: str = Field(description="SHA-256 of the checkpoint: the same digest, the same model.")


class SourceUse(Answered):
    """What part of the text was used. Nothing is cut silently."""

    characters: int = Field(description="Code points of the text.")
    tokens: int = Field(description="Tokens of the text.")
    used_characters: int = Field(description="Code points up to the end of what the model read.")
    used_tokens: int = Field(description="Tokens that the model read.")
    truncated: bool = Field(description="Whether the model read less than the whole text.")


class Usage(Answered):
    """Tokens that were read and written."""

    source_tokens: int = Field(description="Tokens of the text that the model read.")
    summary_tokens: int = Field(description="Tokens of the summary, end token not counted.")


class Timing(Answered):
    """How long it took, in milliseconds."""

    queue_ms: float = Field(description="Waiting for a place in the running batch.")
    encode_ms: float = Field(description="Encoding the text.")
    decode_ms: float = Field(description="Writing the summary.")
    total_ms: float = Field(description="From submission to the end.")


class Part(Answered):
    """One part of a long text and the piece of the summary that it became."""

    source: Range = Field(description="Where it stands in the text.")
    summary: Range = Field(description="Where its piece stands in the summary.")
    score: float = Field(description="Mean log-probability of a token of the piece, end token included.")
    finish_reason: FinishReason


class Summary(Answered):
    """A summary, and how it came about."""

    id: str = Field(description="The `X-Request-ID` of the request; in a batch followed by the place of the text.")
    model: ModelRef = Field(description="Which checkpoint answered.")
    summary: str = Field(description="The summary.")
    finish_reason: FinishReason
    score: float = Field(description="Mean log-probability of a token, end token included.")
    source: SourceUse = Field(description="What part of the text was used.")
    usage: Usage = Field(description="Tokens that were read and written.")
    timing: Timing = Field(description="How long it took.")
    parts: list[Part] | Absent = Field(None, description="Only with `truncation: chunk`.")


class WeightedRange(Range):
    """A span of the text that a token of the summary looked at."""

    weight: float = Field(description="Its attention weight.")


class TokenEvent(Range):
    """One token, while it is streamed: `text` is the piece `[start, end)` of the summary that it made certain.

    All pieces together are the summary. A piece is empty where nothing is certain yet: amid a character, a number, or
    white space at the edge.
    """

    text: str = Field(description="The piece; perhaps empty.")
    log_probability: float = Field(description="Of the token.")
    sources: list[WeightedRange] = Field(
        description="The spans with the largest attention weights, largest first; at most 5."
    )


class HuggingFaceSummary(Answered):
    """A summary as Hugging Face's clients want it: one for each input, in an array."""

    summary_text: str = Field(description="The summary.")


class BatchFailure(Answered):
    """In the place of a text that could not be summarized."""

    error: Problem = Field(description="What was wrong with this text.")


BatchResult = TypeAliasType(
    "BatchResult",
    Annotated[
        Summary | BatchFailure,
        Field(description="A summary, or what was wrong with this text.", examples=[EXAMPLES["BatchFailure"]]),
    ],
)


class BatchResponse(Answered):
    """One result for each text, in order."""

    results: list[BatchResult] = Field(description="As many as there were texts, in their order.")


class SourceItem(Answered):
    """A column: a token or word of the text; `text` is its `[start, end)`."""

    text: str = Field(description="The token or word, without white space at its edges.")
    start: int = Field(description="Its first code point.")
    end: int = Field(description="The code point after its last.")
    sink: bool | Absent = Field(
        None, description="Only as `true`: punctuation, which attracts weight that often means nothing."
    )


class SummaryItem(Answered):
    """A row: a token or word of the summary; `text` is its `[start, end)`."""

    text: str = Field(description="The token or word, without white space at its edges.")
    start: int = Field(description="Its first code point.")
    end: int = Field(description="The code point after its last.")

    log_probability: float = Field(description="Of the token, or the sum over those of the word.")
    copied: float | Absent = Field(
        None, description="Share of the probability that came from copying; absent when the model cannot copy."
    )
    dropped: float | Absent = Field(
        None,
        description="Share of the weight that fell on what has no column, as the start, the end and a prefix, or on "
        "sinks that were dropped; absent when none can. A row that dropped all is zero.",
    )


class TopWeight(Answered):
    """One of the largest weights of a row."""

    source: int = Field(description="Number of its column.")
    weight: float = Field(description="The weight.")


class AttentionUsed(Answered):
    """Which attention of the model is told."""

    layers: list[int] = Field(description="Layers of the decoder, counted from 0.")
    heads: list[int] = Field(description="Heads of each of these layers, counted from 0.")
    reduce: AttentionReduction
    drop_sinks: bool = Field(description="Whether the weight on punctuation was dropped.")


class Attention(Answered):
    """One row for each item of the summary, one column for each item of the text; rows sum to 1."""

    source_tokens: list[SourceItem] = Field(description="The columns.")
    summary_tokens: list[SummaryItem] = Field(description="The rows.")
    weights: list[list[float]] | Absent = Field(None, description="The rows of the matrix; only with `format: dense`.")
    top: list[list[TopWeight]] | Absent = Field(
        None, description="The largest weights of each row, largest first; only with `format: top`."
    )
    coverage: list[float] = Field(description="Sum of each column.")
    used: AttentionUsed | Absent = Field(
        None, description="Which attention this is; absent for a model with a single one, unless it was chosen."
    )


class AttentionResponse(Summary):
    """A summary and the attention that produced it."""

    attention: Attention = Field(description="Where the model looked for each token or word of the summary.")


class ModelLimits(Answered):
    """What a model can take."""

    max_source_tokens: int = Field(description="Tokens of a text; what is beyond is cut, refused or chunked.")
    max_summary_tokens: int = Field(description="Most that `max_length` may be.")
    max_beams: int = Field(description="Most that `num_beams` may be.")


class DefaultParameters(Answered):
    """What a model uses for parameters that are left out."""

    num_beams: int = Field(description="Hypotheses that are followed at once; 1 is greedy.")
    max_length: int = Field(description="Most tokens of the summary, end token not counted.")
    min_length: int = Field(description="Fewest tokens of the summary.")
    length_penalty: float = Field(description="Above 0 favours longer summaries, below 0 shorter ones.")
    no_repeat_ngram_size: int = Field(description="No sequence of so many tokens occurs twice; 0 allows all.")
    numbers_from_source: bool = Field(description="Whether numbers may only be those of the text.")
    repetition_penalty: float = Field(description="Above 1 makes tokens that the summary has already less likely.")
    early_stopping: EarlyStopping = Field(description="When several beams stop.")


class ModelAttention(Answered):
    """The attentions over the text that a decoder has, and those that are told when none is chosen."""

    layers: int = Field(description="Layers of the decoder.")
    heads: int = Field(description="Heads of each layer.")
    default_layers: list[int] = Field(description="What is told when `layers` is left out.")
    default_heads: list[int] = Field(description="What is told when `heads` is left out.")


class Model(Answered):
    """A model that is loaded."""

    name: str = Field(description="Name of the model, to be sent as `model`.")
    family: str = Field(description="What kind of network it is.")
    language: str = Field(description="Language of its texts (BCP 47).")
    description: str = Field(description="What it writes, in one line.")
    digest: str = Field(description="SHA-256 of the checkpoint.")
    limits: ModelLimits = Field(description="What it can take.")
    default_parameters: DefaultParameters = Field(description="What it uses for parameters that are left out.")
    parameter_count: int = Field(description="How many weights it has.")
    precision: str = Field(description="Arithmetic that it computes in.")
    device: str = Field(description="Where it computes.")
    decoding: Decoding = Field(description="Whether texts share the steps of the decoder.")
    attention: ModelAttention = Field(description="What `/attention` can tell of it.")
    card: str = Field(description="The model card, in Markdown.")


class ModelList(Answered):
    """The models that are loaded and the name of the default one."""

    default: str = Field(description="Name of the model that answers when none is asked for.")
    models: list[Model] = Field(description="All that are loaded.")


class Reload(Answered):
    """A model after its reload."""

    name: str = Field(description="Name of the model.")
    digest: str = Field(description="SHA-256 of the checkpoint that is served now.")
    changed: bool = Field(description="Whether it is another one than before; the same is left as it runs.")
    seconds: float = Field(description="From the beginning until it was served.")
    previous_digest: str | Absent = Field(
        None, description="SHA-256 of the checkpoint that was served before; absent for a model that is new."
    )


class Health(Answered):
    """The service is well."""

    status: Literal["ok"] = Field(description="Always `ok`; a service that is not well answers 503.")
