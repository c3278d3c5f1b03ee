"""The native family at the seam: a checkpoint is loaded, and computed by one of `backends.py`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.errors import CheckpointError
from app.models.base import (
    Candidates,
    DecoderState,
    Memory,
    ModelInfo,
    Seq2SeqModel,
    Shared,
    Special,
    Tokens,
)
from app.models.checkpoint import Checkpoint
from app.models.config import Ranges, read_config, section
from app.models.devices import DTYPES, choose_device, choose_precision
from app.models.lstm import network
from app.models.lstm.backends import Backend, FixedBackend, NativeBackend, Text, TorchBackend
from app.models.lstm.graphs import CudaRunner, Runner
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer
from app.models.lstm.tokenizer_file import LEAST_TOKENS, read_tokenizer
from app.models.weights import read_weights, shapes_alone

FREQUENT_FILE = "frequent.json"  # optional: ids of the tokens that every summary can be written with
_SIZE = (1, 8192)
NETWORK: Ranges = {
    "vocabulary_size": (LEAST_TOKENS, 65_536),  # as many as training has ids for
    "embedding_size": _SIZE,
    "encoder_size": _SIZE,
    "encoder_layers": (1, 16),
    "decoder_size": _SIZE,
    "key_size": _SIZE,
    "dropout": (0, 0.99),
    "relevance_size": (0, 8192),
}


class LSTMModel(Seq2SeqModel):
    """A checkpoint of the native family, on its device."""

    def __init__(
        self,
        model: network.Seq2Seq,
        tokenizer: Tokenizer,
        info: ModelInfo,
        frequent: Sequence[int] | None = None,
        runner: Runner | None = None,
    ) -> None:
        """model: with float32 weights. frequent: what every row can write; None is the whole vocabulary.

        runner: of a device that takes its work in fixed shapes.
        """
        tokens = range(model.config.vocabulary_size) if frequent is None else tuple(frequent)
        self._tokenizer, self.info = tokenizer, info
        self._shared = Shared(tokens)
        self._columns = np.full(model.config.vocabulary_size, -1, np.int32)  # of the frequent tokens
        self._columns[list(tokens)] = np.arange(len(tokens))
        with torch.inference_mode():
            network.fold_values(model)
            self.backend = _backend(model, info, torch.tensor(tokens, device=info.device), runner)

    def tokenize(self, text: str) -> Tokens:
        return self._tokenizer.encode(text)

    def tokenize_summary(self, text: str) -> Tokens:
        return self._tokenizer.encode(text.strip())  # as detokenize() gives it: no white space at its edges

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        return self._tokenizer.decode(ids)

    @property
    def calm_rows(self) -> float:
        return self.backend.calm_rows

    @property
    def pieces(self) -> tuple[str, ...]:
        return self._tokenizer.pieces

    @property
    def shared(self) -> Shared:
        return self._shared

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:
        return self.backend.encode(list(map(self._text, sources, given or [()] * len(sources))))

    def positions(self, lengths: Sequence[int]) -> int:
        return self.backend.positions(lengths)

    @torch.inference_mode()
    def open(self, capacity: int) -> DecoderState:
        return self.backend.open(capacity)

    def _text(self, source: Sequence[int], given: Sequence[int]) -> Text:
        columns = self._columns[list(source)]
        seldom = np.flatnonzero(columns < 0).tolist()
        more = (token for token in given if self._columns[token] < 0)
        own = list(dict.fromkeys([*(source[position] for position in seldom), *more]))
        place = {token: column for column, token in enumerate(own, len(self._shared.tokens))}
        columns[seldom] = [place[source[position]] for position in seldom]
        return Text(source, columns, own, Candidates(self._shared, own))


def _backend(model: network.Seq2Seq, info: ModelInfo, frequent: Tensor, runner: Runner | None) -> Backend:
    if info.precision == "int8":
        return NativeBackend(model, frequent)
    dtype = DTYPES[info.precision]
    if runner is None:
        return TorchBackend(model, dtype, frequent)
    return FixedBackend(model, dtype, frequent, info.limits, runner)


def load(checkpoint: Checkpoint, *, device: str, precision: str, runner: Runner | None = None) -> LSTMModel:
    """Build the network of `config.json` and fill it, small files first. A GPU has a runner of its own.

    Raises CheckpointError naming the file that is missing, damaged or does not fit the others.
    """
    chosen = choose_device(device)
    precision = choose_precision(precision, chosen)
    config = read_config(checkpoint)
    sizes = section(checkpoint, "network", network.NetworkConfig, NETWORK)
    tokenizer = read_tokenizer(checkpoint, sizes.vocabulary_size)
    frequent = _frequent(checkpoint, sizes.vocabulary_size)
    card = checkpoint.card
    model = _filled(checkpoint, sizes).to(device=chosen).eval().requires_grad_(False)
    info = ModelInfo(
        name=checkpoint.folder.name,
        family="lstm",
        digest=checkpoint.digest,
        language=config.language,
        description=config.description,
        limits=config.limits,
        defaults=config.defaults,
        card=card,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        precision=precision,
        device=str(chosen),
        special=Special(start=START, end=END, suppressed=(PAD, START)),
    )
    if chosen.type == "cuda":
        runner = CudaRunner(chosen)
    return LSTMModel(model, tokenizer, info, frequent, runner)


def _filled(checkpoint: Checkpoint, sizes: network.NetworkConfig) -> network.Seq2Seq:
    """No memory is taken before the weights are known to fit."""
    with shapes_alone():
        model = network.Seq2Seq(sizes)
    weights = read_weights(checkpoint, {name: tensor.shape for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return model


def _frequent(checkpoint: Checkpoint, vocabulary_size: int) -> list[int] | None:
    """The ids of the frequent tokens; None without such a file.

    Raises CheckpointError when they are not ids of the vocabulary, each once, the end token among them.
    """
    if FREQUENT_FILE not in checkpoint:
        return None
    path, known = checkpoint.folder / FREQUENT_FILE, range(vocabulary_size)
    tokens = checkpoint.read_json(FREQUENT_FILE, 16 * vocabulary_size)
    if not isinstance(tokens, list) or not all(type(token) is int and token in known for token in tokens):
        raise CheckpointError(f"{path}: not a list of token ids under {vocabulary_size}; publish it anew")
    if len(set(tokens)) < len(tokens) or END not in tokens:
        raise CheckpointError(f"{path}: holds an id twice, or not the end token {END}; publish it anew")
    return tokens
