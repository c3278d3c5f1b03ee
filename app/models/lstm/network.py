"""The native network: an attention Seq2Seq of LSTMs with a copy mechanism.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V         Vaswani et al. 2017, eq. 1
    Summary = Decoder(Encoder(X))                            Sutskever et al. 2014

The bottom decoder layer asks, the attended result is an input of the layer above (GNMT, Wu et al. 2016, section 3), so
that all target positions train in one pass. Words are copied by the same attention (See et al. 2017, eq. 8-9).

Shapes: B batch, S source positions, T target positions, V vocabulary, E embedding, H encoder (both directions),
D decoder, K key. Padding stands at the end of a source and receives exactly zero attention.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SELDOM = -6.0  # as a logit, how likely another text begins at a position before anything is learned
WINDOWS = (8, 24)  # tokens, about a phrase and a sentence
COMPARED = 9  # vectors, of windows and of tokens, that tell whether a text begins


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network. `encoder_size` is that of one direction; with a `relevance_size` of 0 there is none."""

    vocabulary_size: int
    embedding_size: int = 256
    encoder_size: int = 256
    encoder_layers: int = 1
    decoder_size: int = 512
    key_size: int = 256
    dropout: float = 0.1
    relevance_size: int = 0


class Memory(NamedTuple):
    """Encoded sources: all that the decoder ever sees of them."""

    keys: Tensor  # (B, S, K)
    values: Tensor  # (B, S, H)
    ids: Tensor  # (B, S) source token ids, for copying
    prior: Tensor  # (B, S) float32, added to every score: log-probability of relevance; minus infinity on padding


class State(NamedTuple):
    """The decoder's recurrent state: O(1) in both source and target length."""

    ask_hidden: Tensor  # (B, D)
    ask_cell: Tensor  # (B, D)
    write_hidden: Tensor  # (B, D)
    write_cell: Tensor  # (B, D)


class Decoded(NamedTuple):
    """What the decoder says at each target position."""

    features: Tensor  # (B, T, E) to be scored against the embeddings
    attention: Tensor  # (B, T, S) float32, rows sum to 1
    gate: Tensor  # (B, T) float32, logit of generating rather than copying
    state: State

    @property
    def shares(self) -> tuple[Tensor, Tensor]:
        """Probability of generating and of copying, 2 x (B, T): sigmoid(gate) and its complement.

        Written as a softmax of two, because a sigmoid over few numbers rounds otherwise than over many (whole vectors
        and their remainder are computed differently), and a result must not depend on how many rows there are.
        """
        generate, copy = torch.softmax(torch.stack([self.gate, torch.zeros_like(self.gate)], dim=2), dim=2).unbind(2)
        return generate, copy


class Dropout(nn.Module):
    """One mask for all positions of a row (Gal & Ghahramani 2016), drawn from a generator of the module's own.

    A recurrent network then sees the same units throughout a text, masks cost next to nothing to draw, and networks
    that train side by side in threads do not draw from one another's generator.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None  # None is torch's own

    def forward(self, values: Tensor) -> Tensor:
        """values (B, T, …)"""
        if not self.training or self.share == 0.0:
            return values
        mask = torch.empty_like(values[:, :1])
        mask.bernoulli_(1.0 - self.share, generator=self.generator).div_(1.0 - self.share)
        return values * mask


def reverse(sequence: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first `lengths[b]` positions of each row; padding stays at the end, so nothing is ever packed.

    sequence: (B, S, …), lengths: (B,)
    """
    positions = torch.arange(sequence.shape[1], device=sequence.device)  # (S)
    mirrored = lengths.unsqueeze(1) - 1 - positions  # (B, S), negative on padding
    index = torch.where(mirrored >= 0, mirrored, positions)  # (B, S)
    first = torch.arange(len(sequence), device=sequence.device).unsqueeze(1) * sequence.shape[1]  # (B, 1)
    return sequence.flatten(0, 1)[(first + index).flatten()].view(sequence.shape)  # whole vectors are moved at once


def lstm(layer: nn.LSTM, sequence: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One layer over (B, T, I) from the state 2 x (B, D): outputs (B, T, D) and the state after them.

    A single position is computed as a cell: over a sequence the CPU library packs the weights anew at every call, which
    takes longer than the step itself.
    """
    if sequence.shape[1] == 1 and not layer.training:
        hidden, cell = torch.lstm_cell(sequence.squeeze(1), (hidden, cell), *layer.all_weights[0])
        return hidden.unsqueeze(1), hidden, cell
    outputs, (hidden, cell) = layer(sequence, (hidden.unsqueeze(0), cell.unsqueeze(0)))
    return outputs, hidden.squeeze(0), cell.squeeze(0)


class Encoder(nn.Module):
    """Bidirectional LSTM, as one LSTM for each direction: padding then follows the text in both."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        sizes = [config.embedding_size] + [2 * config.encoder_size] * (config.encoder_layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, config.encoder_size, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, config.encoder_size, batch_first=True) for size in sizes)
        self.dropout = Dropout(config.dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, E) -> outputs (B, S, H) and, for each row, the two directions' last outputs (B, H)."""
        hidden = embedded
        last = (lengths - 1).view(-1, 1, 1)  # (B, 1, 1)
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            left = forwards(hidden)[0]  # (B, S, H/2)
            right = backwards(reverse(hidden, lengths))[0]  # (B, S, H/2), still reversed
            ends = [side.gather(1, last.expand(-1, 1, side.shape[2])).squeeze(1) for side in (left, right)]
            hidden = self.dropout(torch.cat([left, reverse(right, lengths)], dim=2))  # (B, S, H)
        return hidden, torch.cat(ends, dim=1)


class Relevance(nn.Module):
    """The log-probability that a source position belongs to the text that the source begins with.

    What stands before a position is held against what follows: means over windows of small vectors of the tokens. That
    says how likely another text begins there; the first one lasts as long as none has begun (a survival function):

        log r_i = sum over j <= i of log(1 - P(another begins at j))
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        size = config.relevance_size
        self.token = nn.Linear(2 * config.encoder_size + config.embedding_size, size)
        self.compare = nn.Linear(COMPARED * size, size)
        self.begins = nn.Linear(size, 1)
        nn.init.constant_(self.begins.bias, SELDOM)

    def logits(self, both: Tensor, real: Tensor) -> Tensor:
        """(B, S, H + E), real (B, S): where there is no padding -> (B, S) float32, of another text beginning there."""
        width = both.shape[1]
        tokens = torch.tanh(self.token(both)).float() * real.unsqueeze(2)  # (B, S, R), zero on padding
        sums = F.pad(tokens, (0, 0, 1, WINDOWS[-1])).cumsum(1)  # of all before a position, (B, S + 1 + …, R)
        here = torch.arange(width, device=both.device)
        before = [_mean(sums, (here - size).clamp_min(0), here) for size in (*WINDOWS, width)]
        after = [_mean(sums, here, here + size) for size in WINDOWS]
        alike = [one * after[-1] * tokens.shape[2] for one in before[1:]]
        last = F.pad(tokens, (0, 0, 1, -1))
        seen = torch.cat([*before, *after, *alike, last, tokens], dim=2)  # (B, S, 9 R)
        logits: Tensor = self.begins(torch.relu(self.compare(seen.to(both.dtype))))
        return logits.squeeze(2).float()

    def forward(self, both: Tensor, real: Tensor) -> Tensor:
        """The same arguments -> (B, S) float32; 0 at the first position, and no less on padding than at the last."""
        lasting = F.logsigmoid(-self.logits(both, real)) * real
        return F.pad(lasting[:, 1:], (1, 0)).cumsum(1)


def _mean(sums: Tensor, first: Tensor, end: Tensor) -> Tensor:
    """Means over the positions from `first` to before `end`, (S) both: (B, S, R). Of none it is zero."""
    return (sums[:, end] - sums[:, first]) / (end - first).clamp_min(1).unsqueeze(1)


class Attention(nn.Module):
    """Scaled dot-product attention with learned projections; keys and values are projected once for each source.

    The key also sees the token's own embedding: the exact word is what copying has to find.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        encoded = 2 * config.encoder_size
        self.query = nn.Linear(config.decoder_size, config.key_size, bias=False)
        self.key = nn.Linear(encoded + config.embedding_size, config.key_size, bias=False)
        self.value: nn.Linear | nn.Identity = nn.Linear(encoded, encoded, bias=False)
        self.scale = 1.0 / math.sqrt(config.key_size)

    def project(self, both: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, H + E), (B, S, H) -> keys (B, S, K), values (B, S, H)."""
        return self.key(both), self.value(encoded)

    def forward(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """hidden (B, T, D) -> attended (B, T, H), weights (B, T, S)."""
        queries = self.query(hidden) * self.scale  # (B, T, K)
        scores = torch.bmm(queries, memory.keys.transpose(1, 2)).float()  # (B, T, S)
        scores = scores + memory.prior.unsqueeze(1)
        weights = torch.softmax(scores, dim=2)  # (B, T, S), exactly zero on padding
        return torch.bmm(weights.to(memory.values.dtype), memory.values), weights


class Decoder(nn.Module):
    """Two LSTM layers: the first asks, the second writes with what was attended."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        encoded = 2 * config.encoder_size
        self.ask = nn.LSTM(config.embedding_size, config.decoder_size, batch_first=True)
        self.attention = Attention(config)
        self.write = nn.LSTM(config.decoder_size + encoded, config.decoder_size, batch_first=True)
        self.output = nn.Linear(config.decoder_size + encoded, config.embedding_size)
        self.gate = nn.Linear(config.decoder_size + encoded + config.embedding_size, 1)
        self.dropout = Dropout(config.dropout)

    def forward(self, embedded: Tensor, memory: Memory, state: State) -> Decoded:
        """embedded (B, T, E), the tokens written so far, each the input of its successor."""
        asked, *ask_state = lstm(self.ask, embedded, state.ask_hidden, state.ask_cell)  # (B, T, D)
        asked = self.dropout(asked)
        attended, weights = self.attention(asked, memory)  # (B, T, H), (B, T, S)
        seen = torch.cat([asked, attended], dim=2)  # (B, T, D + H)
        written, *write_state = lstm(self.write, seen, state.write_hidden, state.write_cell)  # (B, T, D)
        written = torch.cat([self.dropout(written), attended], dim=2)  # (B, T, D + H)
        features = self.dropout(self.output(written))  # (B, T, E)
        gate = self.gate(torch.cat([written, embedded], dim=2)).squeeze(2).float()  # (B, T)
        return Decoded(features, weights, gate, State(*ask_state, *write_state))


class Seq2Seq(nn.Module):
    """Encoder, attention, decoder, and one embedding tied over source, target and output."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.encoder = Encoder(config)
        self.relevance = Relevance(config) if config.relevance_size else None
        self.bridge = nn.Linear(2 * config.encoder_size, 4 * config.decoder_size)
        self.decoder = Decoder(config)
        self.output_bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
            elif "bias_hh" in name:
                nn.init.zeros_(parameter)
            elif "bias_ih" in name:  # gates are (input, forget, cell, output): remember at first
                nn.init.zeros_(parameter)
                nn.init.ones_(parameter[parameter.shape[0] // 4 : parameter.shape[0] // 2])

    def encode(self, ids: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """ids (B, S), lengths (B,) -> what the decoder attends to, and where it starts."""
        embedded = self.dropout(self.embedding(ids))  # (B, S, E)
        encoded, last = self.encoder(embedded, lengths)  # (B, S, H), (B, H)
        both = torch.cat([encoded, embedded], dim=2)  # (B, S, H + E)
        real = torch.arange(ids.shape[1], device=ids.device) < lengths.unsqueeze(1)  # (B, S)
        keys, values = self.decoder.attention.project(both, encoded)  # (B, S, K), (B, S, H)
        start = torch.tanh(self.bridge(last))  # (B, 4 D)
        return Memory(keys, values, ids, self.prior(both, real)), State(*start.chunk(4, dim=1))

    def prior(self, both: Tensor, real: Tensor) -> Tensor:
        """(B, S, H + E), real (B, S): where there is no padding -> what `Memory` calls its prior (B, S)."""
        relevance = (
            torch.zeros_like(real, dtype=torch.float32) if self.relevance is None else self.relevance(both, real)
        )
        return relevance.masked_fill(~real, -torch.inf)

    def decode(self, tokens: Tensor, memory: Memory, state: State) -> Decoded:
        """tokens (B, T): the start token and all that follow but the last, or just the last one written (T = 1)."""
        decoded: Decoded = self.decoder(self.dropout(self.embedding(tokens)), memory, state)
        return decoded

    def log_probabilities(self, decoded: Decoded, source_ids: Tensor) -> Tensor:
        """Mixture of generating and copying (See et al. 2017, eq. 9): (B, T, V) float32, normalised."""
        logits = F.linear(decoded.features, self.embedding.weight, self.output_bias).float()  # (B, T, V)
        generate, copy = decoded.shares  # 2 x (B, T)
        mixture = torch.softmax(logits, dim=2) * generate.unsqueeze(2)  # (B, T, V)
        copies = decoded.attention * copy.unsqueeze(2)  # (B, T, S)
        index = source_ids.unsqueeze(1).expand_as(copies)  # (B, T, S)
        return mixture.scatter_add(2, index, copies).clamp_min(torch.finfo(torch.float32).tiny).log()


def fold_values(model: Seq2Seq) -> None:
    """Make the values' projection a part of the weights that it is an input of: what was encoded is then the value.

    The weighted sum of what is projected is the projection of the weighted sum.
    """
    decoder, projection = model.decoder, model.decoder.attention.value
    assert isinstance(projection, nn.Linear)
    start, size = model.config.decoder_size, projection.out_features
    for weight in (decoder.write.all_weights[0][0], decoder.output.weight, decoder.gate.weight):
        part = weight[:, start : start + size]
        part.copy_(part @ projection.weight)
    decoder.attention.value = nn.Identity()
