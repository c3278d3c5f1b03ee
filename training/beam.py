"""Fine-tuning on the measure itself: what a beam finds, ranked by how good it is.

The search of the service chooses among the hypotheses of its beam by their mean log-probability s. A softmax of these
ranks them, and its expected reward is made greater (minimum risk training, Shen et al. 2016, section 3.2; over a beam,
Edunov et al. 2018, section 3.3):

    sum_k q_k r(y_k),  q = softmax(s / temperature),  s_k = log p(y_k) / |y_k|

whose gradient is that of a log-likelihood with the weight q_k (r_k - sum_j q_j r_j) / (temperature |y_k|) for each.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from app.models.lstm.network import Memory, Seq2Seq, State
from app.models.lstm.tokenizer import END, PAD, START
from training.risk import WORTH_MOVING, take

TEMPERATURE = 0.1  # nats a token: about as far apart as the hypotheses of a beam are


class Hypotheses(NamedTuple):
    """K of each of B sources, the best first; one that was cut has no end token.

    inputs, targets: (B K, T) as a `Batch` has them; scores: (B, K) mean log-probability of a token.
    """

    inputs: Tensor
    targets: Tensor
    scores: Tensor


@torch.no_grad()
def search(model: Seq2Seq, memory: Memory, state: State, width: int, longest: int) -> Hypotheses:
    """Beam search as the service has it (`app.search`), with a length penalty of 1 and nothing blocked."""
    sources, device = memory.ids.shape[0], memory.ids.device
    found = [_Found(width) for _ in range(sources)]
    going = list(range(sources))  # those that are computed: all that are searched on, and some that are not
    memory, state = take(memory, state, torch.arange(sources, device=device).repeat_interleave(width))
    totals = torch.full((sources, width), -torch.inf, device=device)
    totals[:, 0] = 0.0
    tokens = torch.full((sources, width, 1), START, device=device)
    for length in range(1, longest + 2):
        decoded = model.decode(tokens[:, :, -1].reshape(-1, 1), memory, state)
        values, parents, chosen = _extend(model.log_probabilities(decoded, memory.ids).squeeze(1), totals)
        for row, place in (chosen[:, :width] == END).nonzero().tolist():
            summary = [*tokens[row, parents[row, place], 1:].tolist(), END]
            found[going[row]].add(float(values[row, place]) / length, summary)
        if length > longest:
            break
        totals, places = values.masked_fill(chosen == END, -torch.inf).topk(width, dim=1)  # (n, K)
        parents, chosen = parents.gather(1, places), chosen.gather(1, places)
        tokens = torch.cat([tokens.gather(1, parents.unsqueeze(2).expand_as(tokens)), chosen.unsqueeze(2)], dim=2)
        for source, score in zip(going, (totals[:, 0] / length).tolist(), strict=True):
            found[source].compare(score)
        on = [row for row, source in enumerate(going) if not found[source].over]
        if not on:
            return _together(found, device)
        rows = (torch.arange(len(going), device=device).unsqueeze(1) * width + parents).flatten()
        state = State(*(field[rows] for field in decoded.state))
        if len(on) < WORTH_MOVING * len(going):
            going, kept = [going[row] for row in on], torch.tensor(on, device=device)
            totals, tokens = totals[kept], tokens[kept]
            rows = (kept.unsqueeze(1) * width + torch.arange(width, device=device)).flatten()
            memory, state = take(memory, state, rows)
    for row, source in enumerate(going):
        for score, summary in zip((totals[row] / longest).tolist(), tokens[row, :, 1:].tolist(), strict=True):
            found[source].add(score, summary)
    return _together(found, device)


def ranking(scores: Tensor, rewards: Tensor, lengths: Tensor) -> Tensor:
    """What each log-likelihood counts: (B, K), as are all. Rewards are taken in units of their standard deviation."""
    shares = torch.softmax(scores / TEMPERATURE, dim=1)
    differences = rewards - (shares * rewards).sum(1, keepdim=True)
    return shares * differences / differences.std().clamp_min(1e-6) / (TEMPERATURE * lengths)


class _Found:
    """The best hypotheses of one source that have ended."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.best: list[tuple[float, list[int]]] = []
        self.over = False

    def add(self, score: float, summary: list[int]) -> None:
        if self.over:
            return
        self.best.append((score, summary))
        self.best.sort(key=lambda hypothesis: -hypothesis[0])
        del self.best[self._width :]

    def compare(self, score: float) -> None:
        """The best live one has this score: is it worth going on?"""
        self.over |= len(self.best) == self._width and self.best[-1][0] >= score


def _extend(scores: Tensor, totals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """scores (n K, V), totals (n, K) -> the best 2 K extensions: their totals, parents and tokens, (n, 2 K) each."""
    count, width = totals.shape
    scores[:, [PAD, START]] = -torch.inf
    values, tokens = scores.topk(2 * width, dim=1)  # (n K, 2 K)
    extended = (totals.reshape(-1, 1) + values).view(count, -1)  # (n, K 2 K)
    values, places = extended.topk(2 * width, dim=1)
    return values, places // (2 * width), tokens.view(count, -1).gather(1, places)


def _together(found: list[_Found], device: torch.device) -> Hypotheses:
    summaries = [torch.tensor(summary) for one in found for _, summary in one.best]
    targets = pad_sequence(summaries, batch_first=True, padding_value=PAD).to(device)  # (B K, T)
    starts = torch.full((len(targets), 1), START, device=device)
    inputs = torch.cat([starts, targets[:, :-1]], dim=1).masked_fill(targets == PAD, PAD)
    return Hypotheses(inputs, targets, torch.tensor([[score for score, _ in one.best] for one in found], device=device))
