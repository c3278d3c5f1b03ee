"""Operations and bytes of the native network, from its sizes alone, and the least time that a machine needs for them.

A multiplication and an addition are two operations. Bytes are those that have to come from somewhere: the weights, what
is stored of each source, embeddings and recurrent states. What passes from one part to the next may stay in registers,
padding need not be computed, and functions of single elements (tanh, softmax) may hide behind products: none of these
is counted. So this is a limit, not a forecast (Williams et al. 2009, the roofline model).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.models.lstm.network import COMPARED, NetworkConfig

SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
# The types of attention, and of products with weights.
TYPES = {"float32": ("float32", "float32"), "bfloat16": ("bfloat16", "bfloat16"), "int8": ("bfloat16", "int8")}
PRECISIONS = tuple(TYPES)


class Shape(NamedTuple):
    """`batch` products of (rows, inner) and (inner, outer)."""

    batch: int
    rows: int
    inner: int
    outer: int

    @property
    def operations(self) -> int:
        return 2 * self.batch * self.rows * self.inner * self.outer


@dataclass(frozen=True, slots=True)
class Part:
    """Work that is done `times` times, one after the other; operations and bytes are those of once.

    type: what is multiplied. weights: bytes that all rows share. own: bytes of the rows themselves. shape: None for
    what is no product.
    """

    name: str
    type: str
    operations: int
    weights: int
    own: int
    shape: Shape | None = None
    times: int = 1

    @property
    def bytes(self) -> int:
        return self.weights + self.own


class Load(NamedTuple):
    """What one core works on at once: `texts` of `source` tokens, `own` of them not among the frequent ones."""

    texts: int
    beams: int
    source: int
    own: int


def _product(name: str, kind: str, shape: Shape, own: int = 0, times: int = 1, shared: bool = True) -> Part:
    """A product whose second factor is weights (`shared`), or belongs to the rows and is counted in `own`."""
    weights = shape.inner * shape.outer * SIZES[kind] if shared else 0
    return Part(name, kind, shape.operations, weights, own, shape, times)


def encoding(config: NetworkConfig, precision: str, load: Load) -> list[Part]:
    """The parts of one encoder pass."""
    kind = TYPES[precision][1]
    size, tokens, half = SIZES[kind], load.texts * load.source, config.encoder_size
    both, embedding, key = 2 * half, config.embedding_size, config.key_size
    parts = []
    for layer in range(config.encoder_layers):
        inner, read = (both, 0) if layer else (embedding, tokens * embedding * size)
        parts.append(_product("encoder, inputs", kind, Shape(1, tokens, inner, 4 * both), read))
        recurrence = Shape(1, load.texts, half, 4 * half)
        parts.append(_product("encoder, recurrence", kind, recurrence, times=2 * load.source))
    parts.append(_product("keys", kind, Shape(1, tokens, both + embedding, key), tokens * key * size))
    parts.append(_product("values", kind, Shape(1, tokens, both, both), tokens * both * size))
    if config.relevance_size:
        compared = config.relevance_size
        parts.append(_product("relevance", kind, Shape(1, tokens, both + embedding, compared)))
        parts.append(_product("relevance, comparing", kind, Shape(1, tokens, COMPARED * compared, compared)))
        parts.append(_product("relevance, deciding", kind, Shape(1, tokens, compared, 1), tokens * 4))
    state = 4 * config.decoder_size
    parts.append(_product("bridge", kind, Shape(1, load.texts, both, state), load.texts * state * 4))
    return parts


def step(config: NetworkConfig, precision: str, load: Load, frequent: int) -> list[Part]:
    """The parts of one decoder step. States and embeddings of what was written last are float32, read and written."""
    stored, kind = TYPES[precision]
    texts, beams, source, own = load
    rows, size, hidden = texts * beams, SIZES[stored], config.decoder_size
    both, embedding, key = 2 * config.encoder_size, config.embedding_size, config.key_size
    state, last, seen = rows * 4 * hidden * 4, rows * embedding * 4, hidden + both

    def weighted(name: str, inner: int, outer: int, own: int = 0) -> Part:
        return _product(name, kind, Shape(1, rows, inner, outer), own)

    def reading(name: str, inner: int, outer: int) -> Part:
        return _product(name, stored, Shape(texts, beams, inner, outer), texts * inner * outer * size, shared=False)

    return [
        weighted("ask", embedding + hidden, 4 * hidden, state + last),
        weighted("query", hidden, key),
        reading("attention, keys", key, source),
        reading("attention, values", source, both),
        weighted("write", seen + hidden, 4 * hidden, state),
        weighted("features", seen, embedding),
        weighted("gate", seen + embedding, 1),
        weighted("output, frequent tokens", embedding, frequent),
        *([reading("output, own tokens", embedding, own)] if own else []),
        Part("copying", stored, 2 * rows * source, 0, texts * source * 8),  # a weight is added where its token stands
    ]


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured of `cores` that work at once. All figures are those of one of them.

    throughput: operations a second, by type and shape. bandwidth: bytes read a second, by how many bytes all cores
    together read again and again.
    """

    cores: int
    throughput: Mapping[tuple[str, Shape], float]
    bandwidth: Mapping[int, float]

    def peak(self, kind: str) -> float:
        """The highest throughput of a type in any shape."""
        return max(rate for (type_, _), rate in self.throughput.items() if type_ == kind)

    def at_peak(self) -> "Machine":
        """The same machine, if every product ran as fast as the fastest."""
        return replace(self, throughput={key: self.peak(key[0]) for key in self.throughput})

    def reads(self, size: int) -> float:
        """Bytes a second of the smallest working set measured that holds `size` bytes."""
        return self.bandwidth[min((known for known in self.bandwidth if known >= size), default=max(self.bandwidth))]


class Bound(NamedTuple):
    """Seconds that a part takes at least: for its operations, and for its bytes."""

    operations: float
    bytes: float

    @property
    def seconds(self) -> float:
        return max(self)


def bounds(parts: Sequence[Part], machine: Machine) -> list[Bound]:
    """Of each part. What is done several times in a row has its own bytes at hand, the rest all that the parts read."""
    whole = sum(_working_set(part, machine.cores) for part in parts if part.times == 1)
    found = []
    for part in parts:
        size = whole if part.times == 1 else _working_set(part, machine.cores)
        products = part.operations / machine.throughput[part.type, part.shape] if part.shape else 0.0
        found.append(Bound(part.times * products, part.times * part.bytes / machine.reads(size)))
    return found


def _working_set(part: Part, cores: int) -> int:
    return part.weights + cores * part.own


@dataclass(frozen=True, slots=True)
class Limit:
    """Seconds of one core for a batch of texts: encoding, decoding; how much of it waits for memory; and the rate."""

    encode: float
    decode: float
    memory: float
    rate: float


def limit(encoder: Sequence[Part], decoder: Sequence[Part], machine: Machine, texts: int, steps: float) -> Limit:
    """Summaries a second of all cores together; each encodes `texts` texts once and decodes them in `steps`."""
    encode, decode = bounds(encoder, machine), bounds(decoder, machine)
    encoding, decoding = (sum(bound.seconds for bound in phase) for phase in (encode, decode))
    seconds = encoding + steps * decoding
    waiting = [sum(one.seconds for one in phase if one.bytes > one.operations) for phase in (encode, decode)]
    memory = (waiting[0] + steps * waiting[1]) / seconds
    return Limit(encoding, steps * decoding, memory, machine.cores * texts / seconds)
