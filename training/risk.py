"""Fine-tuning on the measure itself: samples of the model's own, weighed by how good they are.

The expected reward's gradient is estimated from K samples y_1 … y_K of one source, each held against the mean reward
of the others (Williams 1992; Kool et al. 2019, eq. 8; for summaries: Ranzato et al. 2016, Paulus et al. 2018):

    - 1/K sum_k (r(y_k) - mean of r(y_j), j != k) grad log p(y_k)

which is the gradient of a log-likelihood with a weight for each sample.
"""

from collections.abc import Sequence

import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from app.models.lstm.network import Memory, Seq2Seq, State
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer
from training.evaluation.rouge import MEASURES
from training.evaluation.writing import writing

_WORTH_MOVING = 0.8  # rows that go on are moved together when fewer than this share of those computed are left


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


@torch.no_grad()
def sample(
    model: Seq2Seq, memory: Memory, state: State, longest: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Write a summary for each row, at most `longest` tokens: drawn from the model, or greedily without a generator.

    Returns decoder inputs and targets as a `Batch` has them, (B, T + 1) both; a summary cut short has no end token.
    """
    count, device = memory.ids.shape[0], memory.ids.device
    tokens = torch.full((count, longest + 2), PAD, device=device)
    tokens[:, 0] = START
    rows = torch.arange(count, device=device)  # those that are computed: all that go on, and some that have ended
    for step in range(longest + 1):
        decoded = model.decode(tokens[rows, step].unsqueeze(1), memory, state)
        state = decoded.state
        scores = model.log_probabilities(decoded, memory.ids).squeeze(1)  # (rows, V)
        scores[:, [PAD, START]] = -torch.inf
        chosen = scores.argmax(1) if generator is None else _draw(scores.exp(), generator)
        live = (tokens[rows, step] != END) & (tokens[rows, step] != PAD)
        tokens[rows, step + 1] = torch.where(live, chosen, PAD)
        live &= chosen != END
        if not bool(live.any()):
            break
        if int(live.sum()) < _WORTH_MOVING * len(rows):
            rows, (memory, state) = rows[live], take(memory, state, live)
    tokens = tokens[:, : step + 2]
    return torch.where(tokens[:, :-1] == END, PAD, tokens[:, :-1]), tokens[:, 1:]


def _draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
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


def without_ends(targets: Tensor) -> list[list[int]]:
    """Rows of (B, T) as lists of ids, up to the end token or the padding."""
    return [[token for token in row if token not in (PAD, END)] for row in targets.tolist()]
