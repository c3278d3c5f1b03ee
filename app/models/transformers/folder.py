"""A Hugging Face folder: what its JSON says, in the words of our API, and its weights in the library's network.

The library is given what was verified, never a path: it reads no file, asks no network and runs no code of a folder.
"""

from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from app.models.base import DecodingOptions, Limits, Special
from app.models.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Folder:
    """What a checkpoint of this family says of itself.

    source_positions: of the encoder; what stands around the content is among them.
    notes: what its generation configuration asks for and does not get, one line each.
    """

    config: PreTrainedConfig
    generation: GenerationConfig
    architecture: str  # the library's class
    language: str
    description: str
    prefix: str
    source_positions: int
    limits: Limits  # of `max_source_tokens` nothing is subtracted yet: `limits_around`
    defaults: DecodingOptions
    special: Special
    notes: tuple[str, ...]

    def limits_around(self, special_tokens: int) -> Limits:
        """The limits where so many tokens (prefix, language code, `<s>`, `</s>`) stand around the content.

        Raises CheckpointError when no content fits between them.
        """
        raise NotImplementedError


def read_folder(checkpoint: Checkpoint) -> Folder:
    """Raises CheckpointError: one line that says which file, what is wrong there and what to do."""
    raise NotImplementedError


def load_network(checkpoint: Checkpoint, folder: Folder, dtype: torch.dtype) -> PreTrainedModel:
    """The library's network with the verified weights, on the CPU, for inference alone (`eval`, no gradients).

    Raises CheckpointError naming the tensor that is missing, unknown, of another shape or not finite.
    """
    raise NotImplementedError
