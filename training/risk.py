"""Fine-tuning on the measure itself: samples of the model's own, weighed by how good they are.

The expected reward's gradient is estimated from K samples y_1 … y_K of one source, each held against the mean reward
of the others (Williams 1992; Kool et al. 2019, eq. 8; for summaries: Ranzato et al. 2016, Paulus et al. 2018):

    - 1/K sum_k (r(y_k) - mean of r(y_j), j != k) grad log p(y_k)

which is the gradient of a log-likelihood with a weight for each sample. Only the samples farthest from the mean are
learned from (`decisive`): a slightly biased estimate at little more than half the price.

A step draws first whether it generates or copies, and then the token. That choice counts as a part of the sample, so
log p(y) is log(gate softmax(y)) or log((1 - gate) attention on y): the expectation is the same, and the output layer,
most of the arithmetic, is computed for the tokens that are generated and not for those that are copied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from app.models.lstm.network import Decoded, Memory, Seq2Seq, State
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer
from training.evaluation.rouge import MEASURES
from training.evaluation.writing import writing

WORTH_MOVING = 0.8  # rows that go on are moved together when fewer than this share of those computed are left


class Reward:
    """Mean of ROUGE-1, -2 and -L (F1) of token ids against token ids, 0 to 1, as evaluation scores the language."""

    def __init__(self, tokenizer: Tokenizer, language: str) -> None:
        self._tokenizer = tokenizer
        self._scorer = RougeScorer(MEASURES, tokenizer=writing(language).rouge())

    def __call__(self, references: Sequence[Sequence[int]], summaries: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """One reference and K summaries for each of B sources: (B, K) float32."""
        return torch.tensor(
            [self._score_all(reference, group) for reference, group in zip(references, summaries, strict=True)]
        )

    def _score_all(self, reference: Sequence[int], summaries: Sequence[Sequence[int]]) -> list[float]:
        target, known = self._text(reference), dict[str, float]()
        scores = []
        for text in map(self._text, summaries):
            if text not in known:
                known[text] = sum(score.fmeasure for score in self._scorer.score(target, text).values()) / len(MEASURES)
            scores.append(known[text])
        return scores

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids).text


class Samples(NamedTuple):
    """Decoder inputs and targets as a `Batch` has them, and which targets were generated, not copied: (B, T) each.

    A summary cut short has no end token. What was written greedily counts as copied.
    """

    inputs: Tensor
    targets: Tensor
    generated: Tensor


@torch.no_grad()
def sample(model: Seq2Seq, memory: Memory, state: State, longest: int, generator: torch.Generator | None) -> Samples:
    """Write a summary for each row, at most `longest` tokens: drawn from the model, or greedily without a generator."""
    count, device = memory.ids.shape[0], memory.ids.device
    tokens = torch.full((count, longest + 2), PAD, device=device)
    tokens[:, 0] = START
    generated = torch.zeros(count, longest + 1, dtype=torch.bool, device=device)
    rows = torch.arange(count, device=device)  # those that are computed: all that go on, and some that have ended
    for step in range(longest + 1):
        decoded = model.decode(tokens[rows, step].unsqueeze(1), memory, state)
        state = decoded.state
        if generator is None:
            scores = model.log_probabilities(decoded, memory.ids).squeeze(1)  # (rows, V)
            scores[:, [PAD, START]] = -torch.inf
            chosen = scores.argmax(1)
        else:
            chosen, generated[rows, step] = _draw(model, decoded, memory.ids, generator)
        live = (tokens[rows, step] != END) & (tokens[rows, step] != PAD)
        tokens[rows, step + 1] = torch.where(live, chosen, PAD)
        live &= chosen != END
        if not bool(live.any()):
            break
        if int(live.sum()) < WORTH_MOVING * len(rows):
            rows, (memory, state) = rows[live], take(memory, state, live)
    tokens = tokens[:, : step + 2]
    inputs, targets = torch.where(tokens[:, :-1] == END, PAD, tokens[:, :-1]), tokens[:, 1:]
    return Samples(inputs, targets, generated[:, : targets.shape[1]])


def _draw(model: Seq2Seq, decoded: Decoded, source: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A token of each row's mixture and whether it was generated: (B,) both. One position is decoded; source (B, S)."""
    chosen = source.gather(1, _index(decoded.attention.squeeze(1), generator).unsqueeze(1)).squeeze(1)
    share = decoded.shares[0].squeeze(1)  # (B,)
    generated = torch.rand(len(share), generator=generator, device=share.device) < share
    features = decoded.features.squeeze(1)[generated]  # (n, E)
    logits = F.linear(features, model.embedding.weight, model.output_bias).float()
    logits[:, [PAD, START]] = -torch.inf
    chosen[generated] = _index(torch.softmax(logits, dim=1), generator)
    return chosen, generated


def _index(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One index for each row of (B, V), by inverting the distribution function."""
    reached = probabilities.cumsum(1)
    uniform = torch.rand(len(probabilities), 1, generator=generator, device=probabilities.device)
    return torch.searchsorted(reached, uniform * reached[:, -1:], right=True).squeeze(1).clamp_max(reached.shape[1] - 1)


def take(memory: Memory, state: State, rows: Tensor) -> tuple[Memory, State]:
    """These rows of both, by index or by mask."""
    return Memory(*(field[rows] for field in memory)), State(*(field[rows] for field in state))


def advantages(rewards: Tensor) -> Tensor:
    """(B, K) rewards less the mean of the source's other samples, in units of their standard deviation over all."""
    count = rewards.shape[1]
    exact = rewards.double()  # differences of equal rewards are then far below any that counts
    differences = exact - (exact.sum(1, keepdim=True) - exact) / (count - 1)
    return (differences / differences.std().clamp_min(1e-6)).float()


def decisive(weights: Tensor, count: int) -> Tensor:
    """Of each source's weights (B, K) the `count` largest in size: their indices in the flattened weights.

    The others, near the mean of their source, would cost as much as these and change little.
    """
    first = torch.arange(len(weights), device=weights.device).unsqueeze(1) * weights.shape[1]
    return (first + weights.abs().topk(count, dim=1).indices).flatten()


def without_ends(targets: Tensor) -> list[list[int]]:
    """Rows of (B, T) as lists of ids, up to the end token or the padding."""
    return [[token for token in row if token not in (PAD, END)] for row in targets.tolist()]
