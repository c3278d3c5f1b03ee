"""A small deterministic model at the seam: its outputs depend on a row's own source and prefix only.

Every run of non-space characters is one token. Words outside the vocabulary fall on one of its words by a checksum.
It has the layers and heads of its info, which look beyond the source too where that is not `whole`. Three words make
the model fail on purpose; `FakeModel.gate` holds decoder steps back, so that tests need no sleeping.
"""

import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from app.models.base import (
    AttentionInfo,
    AttentionOptions,
    Candidates,
    DecoderState,
    DecodingOptions,
    Limits,
    Memory,
    ModelInfo,
    Seq2SeqModel,
    Shared,
    Span,
    Special,
    StepOutput,
    Tokens,
)

UNENCODABLE = "unencodable"  # encode() raises for every source that holds it
UNSTEPPABLE = "unsteppable"  # step() raises whenever a row of such a source is stepped
NOT_A_NUMBER = "nan"  # the rows of such a source get NaN log-probabilities

START, END, PAD = 0, 1, 2
POISON = (UNENCODABLE, UNSTEPPABLE, NOT_A_NUMBER)
# fmt: off
WORDS = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima",
    "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey", "xray",
    "yankee", "zulu",
)
# fmt: on
VOCABULARY = ("<s>", "</s>", "<pad>", *POISON, *WORDS)
WORD_IDS = {word: number for number, word in enumerate(VOCABULARY) if number > PAD}
FIRST_WORD = VOCABULARY.index(WORDS[0])
COPY_GATE = 0.4
ADDED = 2  # places that are not of the source
_TOKEN = re.compile("[^\\s\u200b]+")  # a text of zero-width spaces has no token at all

Source = tuple[int, ...]
Prefix = tuple[int, ...]


def fake_info(name: str = "fake", **changes: object) -> ModelInfo:
    """The card of the fake; any field may be replaced."""
    info = ModelInfo(
        name=name,
        family="fake",
        digest="sha256:" + "0" * 64,
        language="en",
        description="A deterministic model for tests.",
        limits=Limits(max_source_tokens=16, max_summary_tokens=12, max_beams=4),
        defaults=DecodingOptions(num_beams=2, max_length=8),
        card="# Fake",
        parameters=0,
        precision="float32",
        device="cpu",
        special=Special(start=START, end=END, suppressed=(START, PAD, *(WORD_IDS[word] for word in POISON))),
    )
    return replace(info, **changes)  # type: ignore[arg-type]  # the fields are checked by the dataclass's callers


class Gate:
    """Lets decoder steps through: all of them when open, a given number when closed."""

    def __init__(self, patience: float = 30.0) -> None:
        self._changed = threading.Condition()
        self._open = True
        self._allowed = 0
        self._arrived = 0
        self._patience = patience

    def close(self) -> None:
        with self._changed:
            self._open = False

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def allow(self, steps: int) -> None:
        with self._changed:
            self._allowed += steps
            self._changed.notify_all()

    def wait_for_arrival(self, number: int) -> None:
        """Until the `number`-th step ever (from 1) stands at the gate or has passed it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= number, self._patience):
                raise TimeoutError(f"step {number} never came; {self._arrived} did")

    def pass_through(self) -> None:
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._open or self._allowed > 0, self._patience):
                raise TimeoutError("nobody opened the gate")
            if not self._open:
                self._allowed -= 1


SHARED = Shared(range(len(VOCABULARY)))


@dataclass(frozen=True, slots=True)
class FakeMemory(Memory):
    source: Source
    model: "FakeModel"

    @property
    def ready(self) -> bool:
        return not self.model.encodes_beside

    @property
    def candidates(self) -> Candidates:
        return Candidates(SHARED)

    @property
    def source_tokens(self) -> int:
        return len(self.source)


@dataclass(frozen=True, slots=True)
class Row:
    source: Source
    prefix: Prefix
    attention: AttentionOptions | None = None


class FakeState(DecoderState):
    """Slots that complain when they are misused."""

    def __init__(self, model: "FakeModel", capacity: int) -> None:
        self._model = model
        self.slots: list[Row | None] = [None] * capacity

    @property
    def occupied(self) -> int:
        return sum(slot is not None for slot in self.slots)

    def _row(self, slot: int) -> Row:
        row = self.slots[slot]
        assert row is not None, f"slot {slot} is free"
        return row

    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, FakeMemory)
        assert attention is None or (attention.layers and attention.heads), "nothing may be left open"
        for slot in rows:
            assert self.slots[slot] is None, f"slot {slot} is taken"
            self.slots[slot] = Row(memory.source, (), attention)

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        assert len(set(rows)) == len(rows) == len(tokens) > 0
        self._model.gate.pass_through()
        for slot, token in zip(rows, tokens, strict=True):
            row = self._row(slot)
            self.slots[slot] = replace(row, prefix=(*row.prefix, token))
        stepped = [self._row(slot) for slot in rows]
        return self._model.run_step(stepped)

    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        held = [self._row(parent) for parent in parents]
        for slot, row in zip(rows, held, strict=True):
            assert self._row(slot).source == row.source, "a row may only continue from its own source"
            self.slots[slot] = row

    def leave(self, rows: Sequence[int]) -> None:
        for slot in rows:
            self._row(slot)
            self.slots[slot] = None


class FakeModel(Seq2SeqModel):
    """`before_encode` and `before_step` see what is about to run and may raise."""

    def __init__(
        self,
        info: ModelInfo | None = None,
        *,
        copies: bool = True,
        before_encode: Callable[[list[Source]], None] | None = None,
        before_step: Callable[[list[Row]], None] | None = None,
    ) -> None:
        self.info = info or fake_info()
        self.gate = Gate()
        self.encodes_beside = False  # while set, as if the device had not encoded anybody yet
        self.states: list[FakeState] = []
        self.encodings: list[list[Source]] = []  # the sources of every encoder pass
        self.steps: list[list[Row]] = []  # the rows of every decoder step
        self.before_encode = before_encode
        self.before_step = before_step
        self._copies = copies

    @property
    def occupied(self) -> int:
        """Slots in use in the newest state: 0 when nothing leaks. After a failure the worker opens a new one."""
        return self.states[-1].occupied if self.states else 0

    def tokenize(self, text: str) -> Tokens:
        matches = list(_TOKEN.finditer(text))
        ids = tuple(_word_id(match.group()) for match in matches)
        return Tokens(text, ids, tuple(Span(*match.span()) for match in matches))

    def tokenize_summary(self, text: str) -> Tokens:
        return self.tokenize(text.strip())

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        text, spans = "", []
        for token in ids:
            start = len(text) + bool(text)
            text = f"{text} {VOCABULARY[token]}".strip()
            spans.append(Span(start, len(text)))
        return Tokens(text, tuple(ids), tuple(spans))

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(f" {word}" for word in VOCABULARY)

    @property
    def shared(self) -> Shared:
        return SHARED

    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:
        assert not given or len(given) == len(sources)
        batch = [tuple(source) for source in sources]
        assert all(batch), "an encoder pass needs tokens"
        self.encodings.append(batch)
        if self.before_encode:
            self.before_encode(batch)
        if any(WORD_IDS[UNENCODABLE] in source for source in batch):
            raise RuntimeError("this source cannot be encoded")
        return [FakeMemory(source, self) for source in batch]

    def open(self, capacity: int) -> FakeState:
        state = FakeState(self, capacity)
        self.states.append(state)
        return state

    def run_step(self, rows: list[Row]) -> StepOutput:
        self.steps.append(rows)
        if self.before_step:
            self.before_step(rows)
        if any(WORD_IDS[UNSTEPPABLE] in row.source for row in rows):
            raise RuntimeError("this row cannot be stepped")
        outputs = [distribution(row) for row in rows]
        attention = np.zeros((len(rows), max(len(row.source) for row in rows)), np.float32)
        for number, row in enumerate(rows):
            attention[number, : len(row.source)] = told(row, self.info.attention)
        return StepOutput(
            log_probabilities=torch.from_numpy(np.stack([log_probabilities for log_probabilities, _ in outputs])),
            attention=torch.from_numpy(attention),
            copied=torch.full((len(rows),), COPY_GATE) if self._copies else None,
        )


def distribution(row: Row) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(vocabulary,) log-probabilities and (source,) attention of one row, from nothing but that row."""
    if WORD_IDS[NOT_A_NUMBER] in row.source:
        return np.full(len(VOCABULARY), np.nan, np.float32), _softmax(np.zeros(len(row.source)))
    random = np.random.default_rng(zlib.crc32(repr((row.source, row.prefix)).encode()))
    logits = random.normal(0.0, 2.0, len(VOCABULARY))
    logits[END] += 0.7 * len(row.prefix) - 1.0
    weights = _softmax(random.normal(0.0, 2.0, len(row.source)))
    mixed = (1.0 - COPY_GATE) * _softmax(logits)
    np.add.at(mixed, np.array(row.source), np.float32(COPY_GATE) * weights)
    return np.log(mixed).astype(np.float32), weights


def told(row: Row, info: AttentionInfo) -> NDArray[np.float32]:
    """(source,) attention of one row as it was asked for; zero where nobody did."""
    if row.attention is None:
        return np.zeros(len(row.source), np.float32)
    if info.whole:
        return distribution(row)[1]
    heads = attentions(row, info)[np.ix_(row.attention.layers or (), row.attention.heads or ())]
    weights = heads.mean((0, 1)) if row.attention.reduce == "mean" else heads.max((0, 1))
    content: NDArray[np.float32] = (weights / weights.sum())[ADDED:].astype(np.float32)
    return content


def attentions(row: Row, info: AttentionInfo) -> NDArray[np.float64]:
    """(layers, heads, places) of one step of a row, those that are not of the source first."""
    random = np.random.default_rng(zlib.crc32(repr((row.source, row.prefix, "heads")).encode()))
    return random.dirichlet(np.ones(ADDED + len(row.source)), (info.layers, info.heads))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max())
    shares: NDArray[np.float32] = (exponentials / exponentials.sum()).astype(np.float32)
    return shares


def _word_id(word: str) -> int:
    known = WORD_IDS.get(word.strip(".,;:!?").lower())
    return known if known is not None else FIRST_WORD + zlib.crc32(word.encode("utf-8", "replace")) % len(WORDS)
