"""The shapes in use on a GPU, and which of them are bit-equal there.

Kernels are chosen by the shape, and may add up in another order. So what comes from a row's company is one of a few
numbers, and each of them was found to make no difference on the very device; all else comes from the row's own source.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from app.models.lstm.fixed import FixedStep, Sources
from app.models.lstm.step import Reading

logger = logging.getLogger(__name__)

FEWEST_PLACES = 8
NARROWEST = 128
ENCODED_ROWS = 32
ROUNDS = 4  # of the comparison


@dataclass(frozen=True, slots=True)
class Shape:
    """What a source alone decides."""

    width: int
    queries: int


def buckets(places: int) -> list[int]:
    """Numbers of places that are computed where there are up to `places`: 8, 16, 32, …"""
    sizes = [FEWEST_PLACES]
    while sizes[-1] < places:
        sizes.append(2 * sizes[-1])
    return sizes


def encoder_passes(lengths: Sequence[int]) -> list[tuple[list[int], int]]:
    """Which sources are encoded together, at most `ENCODED_ROWS`, and how wide.

    Every pass is computed with so many rows, as wide as each of its sources alone asks for: nothing of its shape comes
    from its company.
    """
    passes: list[tuple[list[int], int]] = []
    shortest_first = sorted(range(len(lengths)), key=lengths.__getitem__)
    for width, group in groupby(shortest_first, lambda number: bucket_width(lengths[number], 0)):
        numbers = list(group)
        passes += [(numbers[i : i + ENCODED_ROWS], width) for i in range(0, len(numbers), ENCODED_ROWS)]
    return passes


def bucket_width(positions: int, own: int) -> int:
    """Positions computed for a source with so many, and so many tokens of its own (half as many fit): 128, 256, …"""
    width = NARROWEST
    while width < max(positions, 2 * own):
        width *= 2
    return width


def buckets_in_use(step: FixedStep, shape: Shape, places: int) -> list[int]:
    """The buckets that agree; the largest, which everything fits, in any case."""
    sizes = buckets(places)
    agreed = agreeing(step, shape, sizes)
    if len(agreed) < len(sizes):
        logger.warning("on %s, %s: of the buckets %s only %s are bit-equal", step.device, shape, sizes, agreed)
    return sorted({*agreed, sizes[-1]})


def agreeing(step: FixedStep, shape: Shape, sizes: Sequence[int]) -> list[int]:
    """Those of the buckets over which every row comes to the same bits, wherever it stands.

    They are compared with the first places of the largest, for that one has to be in use.
    """
    kept = list(sizes)
    for seed in range(ROUNDS):
        tokens, hidden, cell, sources = _drawn(step, shape, sizes[-1], seed)
        same = _computed(step, tokens, hidden, cell, sources)[: FEWEST_PLACES * shape.queries]
        for size in list(kept):
            lanes = size * shape.queries
            rows = _computed(step, tokens[:lanes], hidden[:, :lanes], cell[:, :lanes], sources.head(size))
            if not torch.equal(rows, same.repeat(size // FEWEST_PLACES, 1)):
                kept.remove(size)
    return kept


def _computed(step: FixedStep, tokens: Tensor, hidden: Tensor, cell: Tensor, sources: Sources) -> Tensor:
    """Everything that a step comes to, row by row."""
    stepped = step(tokens, hidden, cell, sources)
    return torch.cat(
        [stepped.log_probabilities, stepped.attention, stepped.copied.unsqueeze(1), *stepped.hidden, *stepped.cell], 1
    )


def _drawn(step: FixedStep, shape: Shape, places: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Sources]:
    """Tokens, hidden and cell states and sources at random, the same in every eight places."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(step.device)

    def below(limit: int, *size: int) -> Tensor:
        return torch.randint(limit, size, generator=generator).to(step.device)

    config, arithmetic, times = step.config, step.arithmetic, places // FEWEST_PLACES
    lanes, sources = FEWEST_PLACES * shape.queries, step.room(FEWEST_PLACES, shape.width)
    for place in range(FEWEST_PLACES):
        length = shape.width * (place + FEWEST_PLACES) // (2 * FEWEST_PLACES)
        keys, values = normal(length, config.key_size), normal(length, 2 * config.encoder_size).tanh()
        own = below(config.vocabulary_size, length // 2)
        columns = below(step.shared + len(own), length)
        first = torch.unique(columns, return_inverse=True)[1]  # of equal columns the same
        start = normal(4, config.decoder_size)
        step.store(sources, place, Reading(keys, values, -normal(length).abs(), columns, first, own, start))
    hidden, cell = (normal(2, lanes, config.decoder_size).tanh().repeat(1, times, 1) for _ in range(2))
    tokens = below(config.vocabulary_size, lanes).repeat(times)
    repeated = Sources(*(field.repeat(times, *(1,) * (field.dim() - 1)) for field in sources))
    return tokens, arithmetic.bounded(hidden), cell, repeated
