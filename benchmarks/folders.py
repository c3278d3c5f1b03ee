"""Encoder-decoders of well-known sizes with random weights, as Hugging Face folders.

Speed does not hang on what is said, only on how much: random weights hardly ever end a summary, so whoever measures
says how long it is to be.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils.logging import disable_progress_bar

from app.models.checkpoint import publish
from app.models.lstm.tokenizer import END, PAD, SPECIAL_TOKENS, START
from benchmarks.texts import mixed_texts
from training.transformers import LibraryTokenizer

SEED = 1
LONGEST = 512  # tokens of a source
SAMPLE_TEXTS = 400
LEARNED = 8_000  # tokens of the vocabulary that are words of the sample; the others stand in no text


class Kind(NamedTuple):
    """A configuration, its network, and what stands around a source."""

    config: PreTrainedConfig
    network: Callable[[PreTrainedConfig], PreTrainedModel]
    around: str


def _bart(vocabulary: int, model: int, layers: int, heads: int, feed_forward: int) -> Kind:
    config = BartConfig(
        vocab_size=vocabulary,
        max_position_embeddings=1024,
        d_model=model,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=feed_forward,
        decoder_ffn_dim=feed_forward,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=END,
        forced_eos_token_id=None,
        normalize_before=False,  # as in those that were published: CTranslate2's converter asks for it
    )
    return Kind(config, BartForConditionalGeneration, f"{SPECIAL_TOKENS[START]} $A {SPECIAL_TOKENS[END]}")


def _t5(vocabulary: int, model: int, layers: int, heads: int, feed_forward: int) -> Kind:
    config = T5Config(
        vocab_size=vocabulary,
        d_model=model,
        d_kv=64,
        d_ff=feed_forward,
        num_layers=layers,
        num_heads=heads,
        n_positions=LONGEST,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
    return Kind(config, T5ForConditionalGeneration, f"$A {SPECIAL_TOKENS[END]}")


SIZES: Mapping[str, Callable[[], Kind]] = {
    "bart-base": lambda: _bart(50_265, 768, 6, 12, 3072),
    "t5-small": lambda: _t5(32_128, 512, 6, 8, 2048),
    "bart-tiny": lambda: _bart(1_000, 64, 2, 2, 128),
    "t5-tiny": lambda: _t5(1_000, 64, 2, 2, 128),
}


def folder_of(store: Path, name: str) -> Path:
    """The folder of one of `SIZES` in a store, written when it is not there yet; a manifest is among its files."""
    target = store / name
    if not target.exists():
        store.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=store))
        _write(SIZES[name](), draft)
        publish(draft, target)
    return target


def _write(kind: Kind, folder: Path) -> None:
    disable_progress_bar()
    torch.manual_seed(SEED)
    kind.network(kind.config).save_pretrained(folder)
    pad, start, end = SPECIAL_TOKENS
    tokenizer = _tokenizer(folder / "tokenizer.json", kind.config.vocab_size)
    tokenizer.post_processor = processors.TemplateProcessing(kind.around, special_tokens=[(start, START), (end, END)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token=pad,  # CTranslate2 wants one
        model_max_length=LONGEST,
    ).save_pretrained(folder)


def _tokenizer(path: Path, size: int) -> Tokenizer:
    """As many tokens as the network has: those that are learned from the sample, and numbers behind them."""
    LibraryTokenizer.train(mixed_texts(SAMPLE_TEXTS), min(LEARNED, size)).save(path)
    state = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = state["model"]["vocab"]
    vocabulary |= {f"Ġ#{number}": number for number in range(len(vocabulary), size)}
    return Tokenizer.from_str(json.dumps(state))
