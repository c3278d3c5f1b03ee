"""A Hugging Face folder: what its JSON says, in the words of our API, and its weights in the library's network.

The library is given what was verified, never a path: it reads no file, asks no network and runs no code of a folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING as NETWORKS
from transformers import __version__ as library_version
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as NAMES
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from app.errors import CheckpointError
from app.models.base import DecodingOptions, Limits, Special
from app.models.checkpoint import CONFIG, CONFIG_BYTES, MOST_BYTES, Checkpoint, few
from app.models.config import LIMITS, read_config, section, told, wrong
from app.models.transformers.generation import Asked
from app.models.transformers.library import raised_by_library
from app.models.weights import WEIGHTS, check_values, parse_weights, shapes_alone

OURS = "precis.json"  # optional: what the other files do not say, or say in a way that is not wanted
KNOWN = ("language", "description", "limits", "decoding", "prefix")
TOKENIZER_CONFIG, TOKENIZER_CONFIG_BYTES = "tokenizer_config.json", 4 << 20  # mBART lists its languages there
INDEX, INDEX_BYTES = "model.safetensors.index.json", 4 << 20
UNTOLD_LANGUAGE = "und"  # BCP 47: undetermined
PREFIX_CHARACTERS = 200
SOURCE_TOKENS = 512  # where positions are relative and nobody says how many there were in training
SUMMARY_TOKENS = 1024  # at most, where nothing asks for more
MOST_TOKENS, MOST_BEAMS = int(LIMITS["max_source_tokens"][1]), int(LIMITS["max_beams"][1])
MOST_LAYERS = 256
SPARE = 1 << 20  # numbers that a network may have beside its weights: tables of sines
# What a configuration may not choose: how, and with whose code, the library computes.
NOT_TAKEN = ("auto_map", "attn_implementation", "experts_implementation", "fusion_config", "transformers_weights")
OLD_ARCHITECTURES = {"t5": "T5WithLMHeadModel"}
_SAVE_AGAIN = "take weights and config.json from the same training run"


@dataclass(frozen=True, slots=True)
class Folder:
    """What a checkpoint of this family says of itself.

    architecture: the library's class.
    source_positions: of the encoder; what stands around the content is among them.
    limits: nothing is subtracted from `max_source_tokens` yet; see `limits_around`.
    notes: what its files ask for and do not get, one line each.
    """

    config: PreTrainedConfig
    generation: GenerationConfig
    architecture: str
    language: str
    description: str
    prefix: str
    source_positions: int
    limits: Limits
    defaults: DecodingOptions
    special: Special
    notes: tuple[str, ...]

    def limits_around(self, special_tokens: int) -> Limits:
        """The limits where so many tokens (prefix, language code, `<s>`, `</s>`) stand around the content.

        Raises CheckpointError when no content fits between them.
        """
        room = self.source_positions - special_tokens
        if room < 1:
            taken = f"prefix and special tokens take {special_tokens} of {self.source_positions} positions"
            raise CheckpointError(f"{CONFIG}: {taken}, and none is left for a text; shorten the prefix in {OURS}")
        return replace(self.limits, max_source_tokens=min(self.limits.max_source_tokens, room))


@dataclass(frozen=True, slots=True)
class _Said:
    """What `config.json` of the native family would say, and where it can be changed."""

    config: Mapping[str, Any]
    config_path: Path


def read_folder(checkpoint: Checkpoint) -> Folder:
    """Raises CheckpointError: one line that says which file, what is wrong there and what to do."""
    config = _config(checkpoint)
    architecture = _architecture(checkpoint)
    with raised_by_library(checkpoint.config_path):
        vocabulary_size = config.get_text_config(decoder=True).vocab_size
    asked = Asked(checkpoint, vocabulary_size)
    special = asked.special()
    ours = _ours(checkpoint)
    source_positions, limits = _limits(checkpoint, config, ours, asked.longest(special), len(special.forced))
    defaults = asked.defaults(limits, special)
    said = {
        "language": ours.config.get("language", UNTOLD_LANGUAGE),
        "description": ours.config.get("description", f"{architecture}, from a Hugging Face folder."),
        "limits": asdict(limits),
        "decoding": _with(ours, "decoding", defaults),
    }
    read = read_config(_Said(said, ours.config_path))
    prefix = ours.config.get("prefix", asked.prefix)
    if not isinstance(prefix, str) or len(prefix) > PREFIX_CHARACTERS:
        raise wrong(ours, "prefix", prefix, f"a text of up to {PREFIX_CHARACTERS} characters")
    return Folder(
        config=config,
        generation=asked.generation,
        architecture=architecture,
        language=read.language,
        description=read.description,
        prefix=prefix,
        source_positions=source_positions,
        limits=limits,
        defaults=read.defaults,
        special=special,
        notes=(*asked.notes, *_code(checkpoint)),
    )


def load_network(checkpoint: Checkpoint, folder: Folder, dtype: torch.dtype) -> PreTrainedModel:
    """The library's network with the verified weights, on the CPU, for inference alone (`eval`, no gradients).

    Raises CheckpointError naming the tensor that is missing, unknown, of another shape or not finite.
    """
    weights = _weights(checkpoint)
    path = checkpoint.folder / (INDEX if INDEX in checkpoint else WEIGHTS)
    kind: Any = NETWORKS[type(folder.config)]
    network: PreTrainedModel
    loaded: dict[str, Any]
    with raised_by_library(checkpoint.config_path):
        _compare_sizes(kind, folder.config, weights, path)
        network, loaded = kind.from_pretrained(
            None,
            config=folder.config,
            generation_config=folder.generation,
            state_dict=weights,
            dtype=dtype,
            ignore_mismatched_sizes=True,  # to be told below
            output_loading_info=True,
            local_files_only=True,
        )
    if missing := sorted(loaded["missing_keys"]):
        raise CheckpointError(f"{path}: lacks {few(missing)}, which config.json demands; {_SAVE_AGAIN}")
    if unknown := sorted(loaded["unexpected_keys"]):
        raise CheckpointError(f"{path}: holds {few(unknown)}, which config.json does not know; {_SAVE_AGAIN}")
    for name, found, demanded in sorted(loaded["mismatched_keys"]):
        shapes = f"is {tuple(found)}, but config.json demands {tuple(demanded)}"
        raise CheckpointError(f"{path}: {name} {shapes}; {_SAVE_AGAIN}")
    network.requires_grad_(False)
    return network


def _config(checkpoint: Checkpoint) -> PreTrainedConfig:
    said, kind = checkpoint.config, checkpoint.config.get("model_type")
    if not isinstance(kind, str) or kind not in NAMES:
        if "auto_map" in said:
            line = f"model_type {told(kind)} comes with code of its own, which is not run"
            raise CheckpointError(f"{checkpoint.config_path}: {line}; use a checkpoint that the library knows")
        known = f"a text-to-text one that transformers {library_version} knows, such as bart"
        raise wrong(checkpoint, "model_type", kind, known)
    if said.get("quantization_config") is not None:
        line = "quantized weights are not taken; use the checkpoint that they were made of"
        raise CheckpointError(f"{checkpoint.config_path}: {line}")
    with raised_by_library(checkpoint.config_path):
        _look_at_sizes(checkpoint, said)
        config = CONFIG_MAPPING[kind].from_dict({name: value for name, value in said.items() if name not in NOT_TAKEN})
        network: Any = NETWORKS[type(config)]
    if not config.is_encoder_decoder or network.main_input_name != "input_ids":
        raise wrong(checkpoint, "model_type", kind, "one that makes text of text")
    return config


def _code(checkpoint: Checkpoint) -> tuple[str, ...]:
    return ("auto_map names code, which is not run: the library's own is",) if "auto_map" in checkpoint.config else ()


def _architecture(checkpoint: Checkpoint) -> str:
    """The library's class; the configuration may also name the one without the layer that writes (bart-base does)."""
    kind = checkpoint.config["model_type"]
    name, said = NAMES[kind], checkpoint.config.get("architectures")
    known = {name, MODEL_MAPPING_NAMES.get(kind), OLD_ARCHITECTURES.get(kind)}
    if said and not (isinstance(said, list) and any(each in said for each in known if each)):
        raise wrong(checkpoint, "architectures", said[0] if isinstance(said, list) else said, f"{name}, which writes")
    return name


def _limits(
    checkpoint: Checkpoint, config: PreTrainedConfig, ours: _Said, longest: int | None, forced: int
) -> tuple[int, Limits]:
    """Positions of the encoder, and the limits; what is said in our own file may go as far as positions reach."""
    encoder, decoder = _positions(config, "encoder"), _positions(config, "decoder")
    most_source, most_summary = encoder or MOST_TOKENS, (decoder or MOST_TOKENS) - 1 - forced
    trained = [count for count in (encoder, _count(checkpoint.config.get("n_positions")), _told(checkpoint)) if count]
    source = min(most_source, *(trained or [SOURCE_TOKENS]))
    summary = min(most_summary, max(SUMMARY_TOKENS, longest or 0))
    limits = section(
        _Said({"limits": _with(ours, "limits", Limits(source, summary))}, ours.config_path),
        "limits",
        Limits,
        {**LIMITS, "max_source_tokens": (1, most_source), "max_summary_tokens": (1, most_summary)},
    )
    return max(source, limits.max_source_tokens), limits


def _positions(config: PreTrainedConfig, part: str) -> int | None:
    """Of the encoder or decoder; None where they are relative."""
    own = getattr(config, part, None)
    own = own if isinstance(own, PreTrainedConfig) else config
    for name in (f"max_{part}_position_embeddings", "max_position_embeddings"):
        count = getattr(own, name, None)
        if type(count) is int and count > 1:
            return min(count - 1 if own.model_type == "prophetnet" else count, MOST_TOKENS)  # that counts from 1
    return None


def _told(checkpoint: Checkpoint) -> int | None:
    """As long as texts are for the tokenizer; where nobody knows that, files hold a number beyond all texts."""
    if TOKENIZER_CONFIG not in checkpoint:
        return None
    said = checkpoint.read_json(TOKENIZER_CONFIG, TOKENIZER_CONFIG_BYTES)
    return _count(said.get("model_max_length")) if isinstance(said, dict) else None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= MOST_TOKENS else None


def _ours(checkpoint: Checkpoint) -> _Said:
    path = checkpoint.folder / OURS
    said = checkpoint.read_json(OURS, CONFIG_BYTES) if OURS in checkpoint else {}
    if not isinstance(said, dict):
        raise CheckpointError(f"{path}: not a JSON object; see docs/huggingface.md")
    if unknown := [name for name in said if name not in KNOWN]:
        raise CheckpointError(f"{path}: {few(unknown)} is not known; known are {', '.join(KNOWN)}")
    return _Said(said, path)


def _with(ours: _Said, name: str, derived: Limits | DecodingOptions) -> object:
    """A section, in which our own file need only say what it changes."""
    said = ours.config.get(name, {})
    return {**asdict(derived), **said} if isinstance(said, dict) else said


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file, names in _shards(checkpoint).items():
        path = checkpoint.folder / file
        read = parse_weights(checkpoint.read(file, MOST_BYTES), path)
        if names is not None and names != read.keys():
            line = f"{few(sorted(names ^ read.keys()))} is in one of {INDEX} and the file, but not in both"
            raise CheckpointError(f"{path}: {line}; {_SAVE_AGAIN}")
        for name, tensor in sorted(read.items()):
            if tensor.is_floating_point():
                check_values(name, tensor, path)
        weights |= read
    return weights


def _shards(checkpoint: Checkpoint) -> Mapping[str, set[str] | None]:
    """The files of the weights, with the names in each of several."""
    if INDEX not in checkpoint:
        return {WEIGHTS: None}
    path, said = checkpoint.folder / INDEX, checkpoint.read_json(INDEX, INDEX_BYTES)
    places = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f"{path}: `weight_map` is not an object of names and files; {_SAVE_AGAIN}")
    return {file: {name for name in places if places[name] == file} for file in sorted(set(places.values()))}


def _compare_sizes(kind: Any, config: PreTrainedConfig, weights: Mapping[str, Tensor], path: Path) -> None:
    """Before memory is taken for what no weights are there for."""
    with shapes_alone():
        network = kind(config)
    demanded, found = sum(each.numel() for each in network.parameters()), sum(map(Tensor.numel, weights.values()))
    if demanded > 2 * found + SPARE:
        line = f"{found:,} numbers, where config.json demands {demanded:,}"
        raise CheckpointError(f"{path}: {line}; {_SAVE_AGAIN}")


def _look_at_sizes(checkpoint: Checkpoint, said: Mapping[str, Any], within: str = "") -> None:
    """A configuration of absurd sizes would be built, for hours, before it is found to have no weights."""
    for name, value in said.items():
        if isinstance(value, dict):
            _look_at_sizes(checkpoint, value, f"{within}{name}.")
        elif "layers" in name and type(value) is int and value > MOST_LAYERS:
            raise wrong(checkpoint, f"{within}{name}", value, f"at most {MOST_LAYERS}")
