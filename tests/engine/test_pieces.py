"""Pieces are the summary, whatever its tokens are, in whatever order they are told."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.alignment import top
from app.engine.assembly import join_pieces
from app.engine.engine import Engine
from app.engine.job import Plan
from app.engine.pieces import Piece, Pieces
from app.engine.request import SummaryRequest, WrittenToken
from app.models.base import DecodingOptions, Span, Tokens
from app.models.checkpoint import Checkpoint
from app.models.lstm.family import load
from app.models.lstm.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.engine.running import assert_same
from tests.fakes import FakeModel
from tests.texts import CORPUS, trained_tokenizer

PATIENCE = 600.0  # seconds; a slow machine changes nothing
NUMBERS = (
    "Shares of 3,150 companies fell 12.5 percent in 2031, the most since 1987, and 15,000 people lost jobs.",
    "国家统计局今天公布，二〇二三年全国粮食总产量13908.2亿斤，比上年增加177.6亿斤，增长1.3%，连续9年稳定在1.3万亿斤以上。",
)
STORE = Path(__file__).parents[2] / "model_store"
SOURCE = Tokens("alpha bravo charlie", (1, 2, 3), (Span(0, 5), Span(6, 11), Span(12, 19)))


class Model(FakeModel):
    """The fake with a real tokenizer: its own, or that of a checkpoint."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.detokenize = tokenizer.decode  # type: ignore[method-assign]


@cache
def model_of(name: str) -> Model:
    store = STORE / name / "tokenizer.json"
    return Model(Tokenizer.load(store) if store.exists() else trained_tokenizer(language=name))


MODELS = st.sampled_from(["news-en", "news-zh", "en", "zh"]).map(model_of)


@dataclass(frozen=True)
class Written:
    """The tokens of one part, and how many of them were sure to stay after each."""

    ids: list[int]
    kept: list[int]

    @property
    def summary(self) -> list[int]:
        return self.ids[: self.kept[-1]] if self.kept else []

    def told(self, part: int) -> list[WrittenToken]:
        """And that it is over."""
        every = enumerate(zip([*self.ids, None], [*self.kept, len(self.summary)], strict=True))
        return [WrittenToken(part, place, token, -place / 8, (), kept) for place, (token, kept) in every]


@st.composite
def written(draw: st.DrawFn, model: Model) -> Written:
    """Random tokens, many of them parts of characters, or real ones; now and then some that may be taken off."""
    anything = st.integers(len(SPECIAL_TOKENS), model.tokenizer.vocabulary_size - 1)
    parts = st.sampled_from(model.tokenizer.encode(" ".join(CORPUS)).ids)
    ids = draw(st.lists(anything | parts | st.integers(3, 258), max_size=24))
    kept: list[int] = []
    for place in range(len(ids)):
        kept.append(draw(st.just(place + 1) | st.integers(kept[-1] if kept else 0, place + 1)))
    return Written(ids, kept)


@st.composite
def stories(draw: st.DrawFn) -> tuple[Model, list[Written], list[WrittenToken]]:
    """A summary of several parts, and its tokens in an order in which they may be told: in order in each part, and
    sometimes again from its beginning."""
    model = draw(MODELS)
    parts = draw(st.lists(written(model), min_size=1, max_size=3))
    told = [[*one.told(part)[: draw(st.integers(0, 3))], *one.told(part)] for part, one in enumerate(parts)]
    random = draw(st.randoms(use_true_random=False))
    return model, parts, list(_interleaved(told, random))


def _interleaved(told: list[list[WrittenToken]], random: Random) -> Iterator[WrittenToken]:
    waiting = [list(one) for one in told if one]
    while waiting:
        one = random.choice(waiting)
        yield one.pop(0)
        waiting = [each for each in waiting if each]


def pieces_of(model: Model, parts: int) -> Pieces:
    ranges = tuple(range(1) for _ in range(parts))
    return Pieces(model, Plan(SummaryRequest(SOURCE.text, DecodingOptions()), SOURCE, ranges))


@given(stories())
def test_the_pieces_of_any_tokens_are_the_summary(story: tuple[Model, list[Written], list[WrittenToken]]) -> None:
    model, parts, told = story
    pieces = pieces_of(model, len(parts))
    every: list[Piece] = [piece for token in told for piece in pieces.add(token)]
    summary, _ = join_pieces([model.detokenize(one.summary) for one in parts])
    assert "".join(piece.text for piece in every) == summary.text
    end = 0
    for piece in every:
        assert piece.start == end
        assert piece.text == summary.text[piece.start : piece.end]
        end = piece.end
    assert [piece.log_probability for piece in every] == [
        token.log_probability for part, one in enumerate(parts) for token in one.told(part) if token.token is not None
    ]


@given(MODELS.flatmap(lambda model: st.tuples(st.just(model), written(model))))
def test_each_token_of_the_first_part_is_told_at_once(case: tuple[Model, Written]) -> None:
    model, one = case
    pieces = pieces_of(model, 2)
    assert [len(list(pieces.add(token))) for token in one.told(0)] == [1] * len(one.ids) + [0]


def test_a_part_is_told_as_soon_as_those_before_it_are_over() -> None:
    model = FakeModel()
    pieces = Pieces(model, Plan(SummaryRequest("", DecodingOptions()), SOURCE, (range(1), range(1, 2), range(2, 3))))
    first, second, third = (Written([id], [1]).told(part) for part, id in enumerate((7, 8, 9)))
    told = [[piece.text for piece in pieces.add(token)] for token in (second[0], *third, first[0], first[1], second[1])]
    assert told == [[], [], [], ["bravo"], [" charlie"], [" delta"]]


def test_bytes_of_a_character_and_white_space_wait_for_what_follows() -> None:
    model = model_of("en")
    ids = model.tokenizer.encode("a 漢 b").ids
    pieces = pieces_of(model, 1)
    told = [piece.text for token in Written([*ids], [*range(1, len(ids) + 1)]).told(0) for piece in pieces.add(token)]
    assert len(told) > 3
    assert [text for text in told if text] == ["a", " 漢", " b"]
    assert told[1] == "", "the first byte of a character, perhaps with the space before it"


def test_what_may_be_taken_off_waits() -> None:
    model = model_of("en")
    ids = model.tokenizer.encode("a 漢").ids
    pieces = pieces_of(model, 1)
    kept = [1] * (len(ids) - 1) + [len(ids)]
    told = [piece.text for token in Written([*ids], kept).told(0) for piece in pieces.add(token)]
    assert told == ["a", *[""] * (len(ids) - 2), " 漢"]


def test_sources_are_spans_of_the_whole_text() -> None:
    pieces = Pieces(FakeModel(), Plan(SummaryRequest(SOURCE.text, DecodingOptions()), SOURCE, (range(1), range(1, 3))))
    list(pieces.add(WrittenToken(0, 0, None, 0.0, (), 0)))
    (piece,) = pieces.add(WrittenToken(1, 0, 9, -0.5, ((1, 0.75), (0, 0.25)), 1))
    assert piece.sources == ((Span(12, 19), 0.75), (Span(6, 11), 0.25))


@pytest.mark.parametrize("name", ["news-en", "news-zh"])
def test_what_a_checkpoint_writes_is_streamed_token_by_token(name: str) -> None:
    model = load(Checkpoint(STORE / name), device="cpu", precision="auto")
    options = replace(model.info.defaults, num_beams=1)
    texts = [*CORPUS, "".join(CORPUS), *NUMBERS]
    with Engine(model, max_rows=64, max_queue=2 * len(texts), threads=2) as engine:
        told: list[list[WrittenToken]] = [[] for _ in texts]
        requests = [SummaryRequest(text, options, attention=True, timeout=PATIENCE) for text in texts]
        streams = [
            engine.stream(replace(request, on_token=own.append)) for request, own in zip(requests, told, strict=True)
        ]
        summaries = [future.result(PATIENCE) for future in engine.submit(requests)]
        streamed = [future.result(PATIENCE) for future, _ in streams]
    for summary, same, (_, pieces), tokens in zip(summaries, streamed, streams, told, strict=True):
        assert_same(same, summary)
        assert summary.attention is not None
        every = [piece for token in tokens for piece in pieces.add(token)]
        assert "".join(piece.text for piece in every) == summary.text
        count = summary.summary_tokens
        probabilities = summary.attention.log_probabilities.tolist()
        assert [piece.log_probability for piece in every][:count] == probabilities
        largest = top(summary.attention.weights, 5)
        spans = summary.attention.source.spans
        assert [[weight for _, weight in piece.sources] for piece in every][:count] == [
            [weight for _, weight in row if weight > 0] for row in largest
        ]
        assert all({span for span, _ in piece.sources} <= set(spans) for piece in every)
