"""Small random networks of the library, and models made of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    MarianConfig,
    MBartConfig,
    MT5Config,
    PegasusConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
)
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from app.models.base import DecodingOptions, Limits, Span, Special, Tokens
from app.models.transformers.family import TransformersModel
from tests.fakes import fake_info

VOCABULARY = 97
START, PAD, END = 2, 1, 3
CONTENT = range(4, VOCABULARY)
BEFORE, AFTER = (0, 5), (END,)  # what the encoder gets around the content

_NAMES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
_SPECIAL = {"pad_token_id": PAD, "bos_token_id": 0, "eos_token_id": END, "decoder_start_token_id": START}
_BART: dict[str, Any] = {"d_model": 32, "max_position_embeddings": 64, **_NAMES, **_HEADS}
_T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

CONFIGURATIONS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "bart": (BartConfig, _BART),
    "mbart": (MBartConfig, {**_BART, "scale_embedding": True}),
    "pegasus": (PegasusConfig, {**_BART, "scale_embedding": True, "activation_function": "relu"}),
    "marian": (MarianConfig, {**_BART, "activation_function": "swish", "decoder_vocab_size": VOCABULARY}),
    "t5": (T5Config, {**_T5, "relative_attention_max_distance": 20, "relative_attention_num_buckets": 8}),
    "flan-t5": (T5Config, {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": (MT5Config, {**_T5, "feed_forward_proj": "gated-gelu", "d_kv": 16}),
}


def network_of(kind: str, dtype: torch.dtype = torch.float64, **sizes: Any) -> PreTrainedModel:
    """Weights large enough that distributions are far from flat."""
    torch.manual_seed(0)
    config, chosen = CONFIGURATIONS[kind]
    network: Any = AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
        config(**{"vocab_size": VOCABULARY, **_SPECIAL, **chosen, **sizes}), attn_implementation="eager"
    )
    for name, parameter in network.named_parameters():
        if "norm" in name or "position" in name:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") and "norm" in name else 0.0, 0.3)
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.3)
        else:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    if hasattr(network, "final_logits_bias"):
        network.final_logits_bias.normal_()
    if kind == "flan-t5":  # its output layer is not its embedding
        network.lm_head.weight = torch.nn.Parameter(torch.randn_like(network.lm_head.weight) / 4)
    network.generation_config.forced_eos_token_id = None  # that of the real vocabulary
    made: PreTrainedModel = network.to(dtype).eval().requires_grad_(False)
    return made


@contextmanager
def precise_library() -> Iterator[None]:
    """T5 takes the mean of squares in float32, whatever it is given: too coarse to compare by."""

    def forward(self: T5LayerNorm, hidden_states: Tensor) -> Tensor:
        mean = hidden_states.square().mean(-1, keepdim=True)
        return hidden_states * torch.rsqrt(mean + self.variance_epsilon) * self.weight

    with pytest.MonkeyPatch.context() as patch:
        for kind in (T5LayerNorm, MT5LayerNorm):
            patch.setattr(kind, "forward", forward)
        yield


class NumberTokenizer:
    """Ids as words: "4 17 5"."""

    def encode(self, text: str) -> Tokens:
        return self.decode([int(word) for word in text.split()])

    encode_summary = encode

    def decode(self, ids: Sequence[int]) -> Tokens:
        text, spans = "", []
        for token in ids:
            text = f"{text} {token}".strip()
            spans.append(Span(len(text) - len(str(token)), len(text)))
        return Tokens(text, tuple(ids), tuple(spans))

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(f" {token}" for token in range(VOCABULARY))

    @property
    def around(self) -> tuple[Sequence[int], Sequence[int]]:
        return BEFORE, AFTER


def model_of(network: PreTrainedModel, **changes: Any) -> TransformersModel:
    info = fake_info(
        "small",
        special=Special(start=START, end=END, suppressed=(PAD, START), as_generate=True),
        limits=Limits(max_source_tokens=60, max_summary_tokens=40),
    )
    return TransformersModel(network, NumberTokenizer(), replace(info, **changes))


def decoding(
    max_length: st.SearchStrategy[int], min_length: st.SearchStrategy[int]
) -> st.SearchStrategy[DecodingOptions]:
    """Greedy and beam searches of every sort."""
    return st.builds(
        DecodingOptions,
        num_beams=st.sampled_from([1, 4]),
        max_length=max_length,
        min_length=min_length,
        length_penalty=st.sampled_from([0.5, 1.0, 2.0]),
        no_repeat_ngram_size=st.sampled_from([0, 2, 3]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        early_stopping=st.booleans(),
        numbers_from_source=st.just(False),
    )
