"""What is wrong with a text is said before it is queued, with a pointer and a way out."""

import math
import re

import pytest

from app.engine.admission import LONGEST_CUT, plan
from app.engine.request import SummaryRequest
from app.errors import InvalidRequestError, TooLargeError
from app.models.base import DecodingOptions, Limits, Span, Tokens
from tests.fakes import FakeModel, fake_info

OPTIONS = DecodingOptions(num_beams=2, max_length=8)


def pointers(request: SummaryRequest, max_rows: int = 8) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        plan(FakeModel(), request, max_rows)
    return [error.pointer for error in caught.value.errors]


@pytest.mark.parametrize("text", ["", " \t\r\n\u3000", "\u200b\u200b", "a \ud800 b"])
def test_a_text_with_nothing_to_read_is_refused(text: str) -> None:
    assert pointers(SummaryRequest(text, OPTIONS)) == ["/text"]


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        (DecodingOptions(num_beams=0), "num_beams"),
        (DecodingOptions(num_beams=5), "num_beams"),
        (DecodingOptions(num_beams=1, max_length=0), "max_length"),
        (DecodingOptions(num_beams=1, max_length=13), "max_length"),
        (DecodingOptions(num_beams=1, max_length=5, min_length=6), "min_length"),
        (DecodingOptions(num_beams=1, max_length=5, min_length=-1), "min_length"),
        (DecodingOptions(num_beams=1, max_length=5, no_repeat_ngram_size=-1), "no_repeat_ngram_size"),
        (DecodingOptions(num_beams=1, max_length=5, length_penalty=math.nan), "length_penalty"),
        (DecodingOptions(num_beams=1, max_length=5, length_penalty=400.0), "length_penalty"),
        (DecodingOptions(num_beams=1, max_length=5, repetition_penalty=0.9), "repetition_penalty"),
        (DecodingOptions(num_beams=1, max_length=5, repetition_penalty=math.nan), "repetition_penalty"),
    ],
)
def test_options_beyond_the_model_are_refused_by_name(options: DecodingOptions, pointer: str) -> None:
    assert f"/parameters/{pointer}" in pointers(SummaryRequest("alpha", options))


def test_more_beams_than_rows_are_refused() -> None:
    assert pointers(SummaryRequest("alpha", DecodingOptions(3, 5)), max_rows=2) == ["/parameters/num_beams"]


def test_every_wrong_field_is_named_at_once() -> None:
    request = SummaryRequest(" ", DecodingOptions(9, 99), given="", truncation="chunk")
    assert pointers(request) == ["/parameters/num_beams", "/parameters/max_length", "/text", "/summary", "/truncation"]


@pytest.mark.parametrize("given", ["\u200b", "alpha " * 13])
def test_a_given_summary_has_to_fit_the_model(given: str) -> None:
    assert pointers(SummaryRequest("alpha", OPTIONS, given=given)) == ["/summary"]


def test_a_long_text_is_cut_refused_or_split_as_its_sender_wishes() -> None:
    text = " ".join(["alpha"] * 20)
    model = FakeModel()
    assert plan(model, SummaryRequest(text, OPTIONS, "head"), 8).parts == (range(16),)
    assert plan(model, SummaryRequest(text, OPTIONS, "chunk"), 8).parts == (range(10), range(10, 20))
    assert plan(model, SummaryRequest("alpha", OPTIONS, "error"), 8).parts == (range(1),)
    assert pointers(SummaryRequest(text, OPTIONS, "error")) == ["/text"]


def test_attention_too_large_for_memory_is_refused() -> None:
    model = FakeModel(fake_info(limits=Limits(max_source_tokens=10, max_summary_tokens=1000)))
    text = "alpha " * 2000
    options = DecodingOptions(2, max_length=1000)
    with pytest.raises(TooLargeError):
        plan(model, SummaryRequest(text, options, "chunk", attention=True), 8)
    assert plan(model, SummaryRequest(text, options, "chunk"), 8).parts


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("alpha " * 16, 16),
        ("alpha " * 900, 16),
        ("alpha " * 15 + "1,000,000 alpha", 24),
        ("alpha " * 15 + "1" * 900, 16 + LONGEST_CUT),
    ],
)
def test_of_a_text_that_is_cut_no_more_is_kept_than_the_word_at_the_edge(text: str, kept: int) -> None:
    planned = plan(Characters(), SummaryRequest(text, OPTIONS), 8)
    whole = Characters().tokenize(text)
    assert planned.source.ids == whole.ids[:kept]
    assert (planned.tokens, planned.parts) == (len(whole.ids), (range(16),))


class Characters(FakeModel):
    """Each character of a number is a token."""

    def tokenize(self, text: str) -> Tokens:
        spans = [Span(*match.span()) for match in re.finditer(r"[0-9,]|[^0-9,\s]+", text)]
        return Tokens(text, tuple(range(len(spans))), tuple(spans))
