"""What every peer runs: the checkpoint's network in plain PyTorch, in static batches, as one would write it by hand.

A batch is padded to its longest source and decoded until its last summary is finished; finished rows are masked. The
memory of a source is repeated for each beam. Every step scores the whole vocabulary. The options are those of the
checkpoint; only `numbers_from_source`, which no other library has either, is left out (it would cost time).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from app.models.base import DecodingOptions
from app.models.lstm.network import Memory, NetworkConfig, Seq2Seq, State
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer
from benchmarks.peers.items import Item, by_beams


class Summarizer:
    """One checkpoint on one device. Not thread-safe: one batch at a time."""

    def __init__(self, folder: Path, precision: str = "float32") -> None:
        """precision: float32 or bfloat16, of everything but softmax and scores."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.options = DecodingOptions(**config["decoding"])
        self._longest = int(config["limits"]["max_source_tokens"])
        self._tokenizer = Tokenizer.load(folder / "tokenizer.json")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = Seq2Seq(NetworkConfig(**config["network"]))
        self._network.load_state_dict(load_file(folder / "model.safetensors"))
        self._network.to(self._device, getattr(torch, precision)).eval().requires_grad_(False)

    def summarize(self, items: Sequence[Item]) -> list[str]:
        """One summary for each item, in order; those with as many beams are decoded together."""
        return by_beams(items, self._summarize)

    def _summarize(self, texts: Sequence[str], beams: int) -> list[str]:
        return [self._tokenizer.decode(ids).text for ids in self._generate(self._tokenizer.ids(texts), beams)]

    @torch.inference_mode()
    def _generate(self, sources: Sequence[Sequence[int]], beams: int) -> list[list[int]]:
        sources = [ids[: self._longest] for ids in sources]
        lengths = torch.tensor([len(ids) for ids in sources])
        padded = torch.full((len(sources), int(lengths.max())), PAD)
        for row, ids in enumerate(sources):
            padded[row, : len(ids)] = torch.tensor(ids)
        memory, state = self._network.encode(padded.to(self._device), lengths.to(self._device))
        return self._greedy(memory, state) if beams == 1 else self._beam(memory, state, beams)

    def _greedy(self, memory: Memory, state: State) -> list[list[int]]:
        tokens = torch.full((len(memory.ids), 1), START, device=self._device)
        finished = torch.zeros(len(tokens), dtype=torch.bool, device=self._device)
        for _ in range(self.options.max_length):
            scores, state = self._step(tokens, memory, state)
            written = scores.argmax(1).masked_fill(finished, PAD)
            tokens = torch.cat([tokens, written.unsqueeze(1)], dim=1)
            finished |= written == END
            if finished.all():
                break
        return [_until_end(row) for row in tokens[:, 1:].tolist()]

    def _beam(self, memory: Memory, state: State, beams: int) -> list[list[int]]:
        """Beam search with Hugging Face's ranking: `early_stopping=False`, 2 x beams candidates."""
        count = len(memory.ids)
        memory = Memory(*(part.repeat_interleave(beams, dim=0) for part in memory))
        state = State(*(part.repeat_interleave(beams, dim=0) for part in state))
        tokens = torch.full((count * beams, 1), START, device=self._device)
        totals = torch.full((count, beams), -torch.inf, device=self._device)
        totals[:, 0] = 0.0
        first_row = torch.arange(count, device=self._device).unsqueeze(1) * beams
        found = [_Found(beams, self.options.length_penalty) for _ in range(count)]
        for length in range(self.options.max_length + 1):
            scores, state = self._step(tokens, memory, state)
            vocabulary = scores.shape[1]
            best, place = (totals.view(-1, 1) + scores).view(count, -1).topk(2 * beams, dim=1)
            rows, words = first_row + place // vocabulary, place % vocabulary  # (B, 2 beams)
            ends = words == END
            texts = tokens[:, 1:].tolist()
            ended = ends[:, :beams].nonzero().tolist()
            for source, rank in ended:
                found[source].add(texts[int(rows[source, rank])], float(best[source, rank]), length + 1)
            if length == self.options.max_length:
                over = {int(rows[source, rank]) for source, rank in ended}
                for row, total in enumerate(totals.flatten().tolist()):
                    if row not in over:
                        found[row // beams].add(texts[row], total, length)
                break
            totals, chosen = best.masked_fill(ends, -torch.inf).topk(beams, dim=1)
            order = rows.gather(1, chosen).flatten()
            tokens = torch.cat([tokens[order], words.gather(1, chosen).view(-1, 1)], dim=1)
            state = State(*(part[order] for part in state))
            for one, highest in zip(found, totals.amax(1).tolist(), strict=True):
                one.close_unless_beaten(highest, length + 1)
            if all(one.closed for one in found):
                break
        return [one.best for one in found]

    def _step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (rows, V) of the next token, minus infinity where it is blocked."""
        decoded = self._network.decode(tokens[:, -1:], memory, state)
        scores = self._network.log_probabilities(decoded, memory.ids).squeeze(1)
        scores[:, [PAD, START]] = -torch.inf
        return block_repeated_ngrams(scores, tokens[:, 1:], self.options.no_repeat_ngram_size), decoded.state


class _Found:
    """The best hypotheses of one source that have ended, best first."""

    def __init__(self, beams: int, length_penalty: float) -> None:
        self._beams, self._length_penalty = beams, length_penalty
        self._ended: list[tuple[float, list[int]]] = []
        self.closed = False

    def add(self, tokens: list[int], total: float, length: int) -> None:
        if not self.closed:
            ended = [*self._ended, (total / length**self._length_penalty, tokens)]
            self._ended = sorted(ended, key=lambda pair: -pair[0])[: self._beams]

    def close_unless_beaten(self, highest: float, length: int) -> None:
        """`highest` is the total of the best live hypothesis."""
        full = len(self._ended) == self._beams
        self.closed |= full and self._ended[-1][0] >= highest / length**self._length_penalty

    @property
    def best(self) -> list[int]:
        return self._ended[0][1]


def block_repeated_ngrams(scores: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Minus infinity, in place, where a token would complete an n-gram for the second time.

    scores: (R, V), tokens: (R, T) written so far.
    """
    if size < 1 or tokens.shape[1] < size:
        return scores
    windows = tokens.unfold(1, size, 1)  # (R, T - size + 1, size)
    beginning = tokens[:, tokens.shape[1] - size + 1 :].unsqueeze(1)  # (R, 1, size - 1)
    rows, places = (windows[:, :, :-1] == beginning).all(2).nonzero(as_tuple=True)
    scores[rows, windows[rows, places, -1]] = -torch.inf
    return scores


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens
