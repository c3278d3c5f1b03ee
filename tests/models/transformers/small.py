"""Small random networks of architectures that have no step of our own, and a tokenizer of words for them."""

import re
from collections.abc import Sequence
from functools import cache

import torch
from transformers import LEDConfig, LEDForConditionalGeneration, PreTrainedModel
from transformers import ProphetNetConfig, ProphetNetForConditionalGeneration

from app.models.base import DecodingOptions, Limits, ModelInfo, Span, Special, Tokens
from app.models.transformers.fallback import FallbackModel

PAD, BEFORE, END = 0, 1, 2  # ProphetNet counts its positions from that of the padding token
FIRST_WORD = 4
VOCABULARY = 40
LONGEST = 12  # positions of the decoder: start, and eleven tokens
BROKEN = "broken"  # a word that the network does not know
_WORD = re.compile(r"\S+")


class WordTokenizer:
    """w4 to w39 are the words; `<s>` stands before a text and `</s>` after it."""

    pieces = tuple(f" w{number}" if number >= FIRST_WORD else "" for number in range(VOCABULARY))

    def encode(self, text: str) -> Tokens:
        found = list(_WORD.finditer(text))
        ids = tuple(VOCABULARY if each.group() == BROKEN else int(each.group()[1:]) for each in found)
        return Tokens(text, ids, tuple(Span(*each.span()) for each in found))

    def encode_summary(self, text: str) -> Tokens:
        return self.encode(text.strip())

    def decode(self, ids: Sequence[int]) -> Tokens:
        return self.encode(" ".join(f"w{number}" for number in ids))

    def with_special(self, ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        return (BEFORE,), (END,)


def text_of(ids: Sequence[int]) -> str:
    return " ".join(f"w{number}" for number in ids)


@cache
def network(architecture: str) -> PreTrainedModel:
    """In float64, with weights so large that its logits differ."""
    torch.manual_seed(7)
    common = {"vocab_size": VOCABULARY, "bos_token_id": BEFORE, "pad_token_id": PAD, "eos_token_id": END}
    if architecture == "led":
        config = LEDConfig(
            **common, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
            decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, attention_window=8,
            max_encoder_position_embeddings=64, max_decoder_position_embeddings=LONGEST, init_std=0.7,
            decoder_start_token_id=END, forced_eos_token_id=None,
        )
        return LEDForConditionalGeneration(config).double().eval()
    config = ProphetNetConfig(
        **common, hidden_size=16, num_encoder_layers=3, num_decoder_layers=3, num_encoder_attention_heads=2,
        num_decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, ngram=2,
        num_buckets=8, relative_max_distance=16, init_std=0.7, decoder_start_token_id=END,
    )
    return ProphetNetForConditionalGeneration(config).double().eval()


def base_info(architecture: str) -> ModelInfo:
    return ModelInfo(
        name=architecture,
        family="transformers",
        digest="sha256:" + "0" * 64,
        language="en",
        description="Random.",
        limits=Limits(max_source_tokens=30, max_summary_tokens=20, max_beams=4),
        defaults=DecodingOptions(num_beams=2, max_length=8, numbers_from_source=False),
        card="# Random",
        parameters=0,
        precision="float64",
        device="cpu",
        special=Special(start=END, end=END, suppressed=()),
    )


def fallback(architecture: str) -> FallbackModel:
    return FallbackModel(network(architecture), WordTokenizer(), base_info(architecture))
