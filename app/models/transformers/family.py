"""The family at the seam: the library's encoder, our decoder, and the tokenizer of the checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel
from typing_extensions import override

from app.errors import ConfigurationError
from app.models import kernels
from app.models.base import (
    AttentionInfo,
    Candidates,
    DecoderState,
    Memory,
    ModelInfo,
    Seq2SeqModel,
)
from app.models.checkpoint import Checkpoint
from app.models.devices import DTYPES, PRECISIONS, choose_device, choose_precision
from app.models.transformers import native
from app.models.transformers.architectures import ARCHITECTURES, Decoder, read_decoder
from app.models.transformers.decoder import Step, packed
from app.models.transformers.encoding import Encoder, multiply_by
from app.models.transformers.fallback import FallbackModel
from app.models.transformers.folder import load_network, read_folder
from app.models.transformers.model import LibraryModel, Tokenizer
from app.models.transformers.native import NativeEncoder, NativeState, NativeStep
from app.models.transformers.state import TransformersState
from app.models.transformers.tokenizer_file import read_tokenizer

AUTO_DEVICE = "cpu"  # no GPU has run this family yet: who wants one says so


class TransformersModel(LibraryModel):
    """A checkpoint of one of `ARCHITECTURES`."""

    def __init__(self, network: PreTrainedModel, tokenizer: Tokenizer, info: ModelInfo) -> None:
        """network: of the type that is computed in; for int8 in float32. Of its decoder only the weights are kept."""
        # a row is given its start, what is forced, and its tokens
        decoder = read_decoder(network, 1 + len(info.special.forced) + info.limits.max_summary_tokens)
        attention = AttentionInfo.of_transformer(len(decoder.layers), decoder.architecture.heads)
        super().__init__(tokenizer, len(decoder.output.weight))
        self.info = replace(info, attention=attention)
        self._encode_around, self._open = _backend(network, decoder, info.precision)

    @override
    def _encode(self, before: Sequence[int], source: Sequence[int], after: Sequence[int]) -> Memory:
        return self._encode_around(before, source, after, Candidates(self._shared))

    def open(self, capacity: int) -> DecoderState:
        return self._open(capacity)


Encode = Callable[[Sequence[int], Sequence[int], Sequence[int], Candidates], Memory]
Open = Callable[[int], DecoderState]


def _backend(network: PreTrainedModel, decoder: Decoder, precision: str) -> tuple[Encode, Open]:
    """What encodes a source, and what opens a state: kernels of our own where there are some, or torch."""
    encoder = network.get_encoder()
    missing = kernels.missing() or native.missing(decoder)
    if precision == "int8" and missing:
        raise ConfigurationError(f"PRECIS_PRECISION=int8: {missing}; use float32 or bfloat16")
    if network.device.type == "cpu" and network.dtype == torch.float32 and not missing:
        step = NativeStep(decoder, rounded=precision == "int8")
        return NativeEncoder(encoder, step), partial(NativeState, step)
    return Encoder(multiply_by(packed, encoder), decoder), partial(TransformersState, Step(decoder))


def load(checkpoint: Checkpoint, *, device: str, precision: str) -> Seq2SeqModel:
    """Read a Hugging Face folder, small files first.

    Raises CheckpointError naming the file that is missing, damaged or does not fit the others.
    """
    place = choose_device(AUTO_DEVICE if device == "auto" else device)
    folder = read_folder(checkpoint)
    ours = folder.config.model_type in ARCHITECTURES
    precision = choose_precision(precision, place, PRECISIONS if ours else DTYPES)
    vocabulary_size = folder.config.get_text_config(decoder=True).vocab_size
    tokenizer = read_tokenizer(checkpoint, vocabulary_size, folder.prefix)
    card = checkpoint.card
    network = load_network(checkpoint, folder, DTYPES.get(precision, torch.float32))
    network.to(place)  # type: ignore[arg-type]  # its wrapper is typed wrongly
    info = ModelInfo(
        name=checkpoint.folder.name,
        family="transformers",
        digest=checkpoint.digest,
        language=folder.language,
        description=folder.description,
        limits=folder.limits_around(sum(map(len, tokenizer.around))),
        defaults=folder.defaults,
        card=card,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        precision=precision,
        device=str(place),
        special=folder.special,
    )
    return (TransformersModel if ours else FallbackModel)(network, tokenizer, info)
