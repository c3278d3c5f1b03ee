"""Small random networks of architectures that have no step of our own, and models made of them."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from app.models.base import DecodingOptions, Limits, Special
from app.models.transformers.fallback import FallbackModel
from app.models.transformers.tokenizer import SourceTokenizer
from tests.fakes import fake_info

PAD, BEFORE, END = 0, 1, 2  # ProphetNet counts its positions from the padding token on
VOCABULARY = 40
CONTENT = range(3, VOCABULARY)
LONGEST = 10  # tokens of a summary that LED has positions for
UNKNOWN = "unknown"  # a word that no network has an embedding for

_SPECIAL = {"pad_token_id": PAD, "bos_token_id": BEFORE, "eos_token_id": END, "decoder_start_token_id": END}
_BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "init_std": 0.7,
}
_T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_heads": 4, "initializer_factor": 3.0}
_LED = {"attention_window": 8, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": LONGEST + 1}
_PROPHETNET = {
    "hidden_size": 16,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "num_encoder_attention_heads": 2,
    "num_decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "num_buckets": 8,
    "relative_max_distance": 16,
    "init_std": 0.7,
}
_BERT = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.7,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "led": {**_BART, **_LED},
    "prophetnet": _PROPHETNET,
    "longt5": {**_T5, "local_radius": 4, "global_block_size": 4, "encoder_attention_type": "transient-global"},
    "switch_transformers": {**_T5, "num_decoder_layers": 3, "num_experts": 2, "expert_capacity": 64},
    "m2m_100": {**_BART, "max_position_embeddings": 64},
    "bigbird_pegasus": {**_BART, "max_position_embeddings": 64, "block_size": 4, "num_random_blocks": 1},
    "pegasus_x": {**_BART, "block_size": 8, "num_global_tokens": 4},
    "encoder-decoder": {"encoder": _BERT, "decoder": {**_BERT, "is_decoder": True, "add_cross_attention": True}},
}


@cache
def other_network(kind: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """With weights so large that its distributions are far from flat."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, **{"vocab_size": VOCABULARY, **_SPECIAL, **CONFIGURATIONS[kind]})
    network: Any = AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]
    made: PreTrainedModel = network.to(dtype).eval().requires_grad_(False)
    return made


class Words:
    """Every word is a token: "w7" is the seventh, others are one of them by a checksum."""

    def ids(self, text: str) -> list[int]:
        return [_id(word) for word in text.split()]

    def offsets(self, text: str) -> NDArray[np.int64]:
        return np.array([found.span() for found in re.finditer(r"\S+", text)], dtype=np.int64).reshape(-1, 2)


def _id(word: str) -> int:
    if word == UNKNOWN:
        return VOCABULARY
    known = re.fullmatch(r"w(\d+)", word)
    return int(known[1]) if known else CONTENT[zlib.crc32(word.encode()) % len(CONTENT)]


def text_of(ids: Sequence[int]) -> str:
    return " ".join(f"w{number}" for number in ids)


def other_model(network: PreTrainedModel, **changes: Any) -> FallbackModel:
    """Starts with `<s>` and ends with `</s>` around a source."""
    info = fake_info(
        "other",
        special=Special(start=END, end=END, suppressed=(PAD,), as_generate=True),
        limits=Limits(max_source_tokens=40, max_summary_tokens=2 * LONGEST, max_beams=4),
        defaults=DecodingOptions(num_beams=2, max_length=8, numbers_from_source=False),
    )
    written = [f" w{token}".encode() if token in CONTENT else b"" for token in range(VOCABULARY)]
    tokenizer = SourceTokenizer(Words(), Words(), written, ((BEFORE,), (END,)))
    return FallbackModel(network, tokenizer, replace(info, **changes))
