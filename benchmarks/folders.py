"""Encoder-decoders of well-known sizes with random weights, as Hugging Face folders.

Speed does not hang on what is said, only on how much: random weights hardly ever end a summary, so whoever measures
says how long it is to be. The weights are larger than the library's, which only repeat the token before.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, processors
from transformers import (
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils.logging import disable_progress_bar

from app.models.checkpoint import publish
from app.models.lstm.tokenizer import END, PAD, SPECIAL_TOKENS, START
from benchmarks.texts import mixed_texts
from training.transformers import LibraryTokenizer, Sizes

SEED = 1
LONGEST = 512  # tokens of a source
SAMPLE_TEXTS = 400
LEARNED = 8_000  # tokens of the vocabulary that are words of the sample; the others stand in no text


class Kind(NamedTuple):
    """A network, which takes its time, and what stands around a source."""

    network: PreTrainedModel
    around: str


def _bart(vocabulary: int, model: int, layers: int, heads: int, feed_forward: int) -> Kind:
    config = Sizes(vocabulary, 1024, model, layers, heads, feed_forward).config()
    config.init_std, config.decoder_start_token_id = 2.8 * model**-0.5, END
    return Kind(BartForConditionalGeneration(config), f"{SPECIAL_TOKENS[START]} $A {SPECIAL_TOKENS[END]}")


def _t5(vocabulary: int, model: int, layers: int, heads: int, feed_forward: int) -> Kind:
    values: dict[str, Any] = {
        "vocab_size": vocabulary,
        "d_model": model,
        "d_kv": 64,
        "d_ff": feed_forward,
        "num_layers": layers,
        "num_heads": heads,
        "n_positions": LONGEST,
        "initializer_factor": 4.0,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "decoder_start_token_id": PAD,
    }
    return Kind(T5ForConditionalGeneration(T5Config(**values)), f"$A {SPECIAL_TOKENS[END]}")


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
        torch.manual_seed(SEED)
        _write(SIZES[name](), draft)
        publish(draft, target)
    return target


def _write(kind: Kind, folder: Path) -> None:
    disable_progress_bar()  # type: ignore[no-untyped-call]
    kind.network.save_pretrained(folder)
    pad, start, end = SPECIAL_TOKENS
    tokenizer = _tokenizer(folder / "tokenizer.json", kind.network.config.vocab_size)
    tokenizer.post_processor = processors.TemplateProcessing(kind.around, special_tokens=[(start, START), (end, END)])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token=pad,  # CTranslate2 wants one
        model_max_length=LONGEST,
    )
    fast.save_pretrained(folder)


def _tokenizer(path: Path, size: int) -> Tokenizer:
    """As many tokens as the network has: those that are learned from the sample, and numbers behind them."""
    LibraryTokenizer.train(mixed_texts(SAMPLE_TEXTS), min(LEARNED, size)).save(path)
    state = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = state["model"]["vocab"]
    vocabulary |= {f"Ġ#{number}": number for number in range(len(vocabulary), size)}
    return Tokenizer.from_str(json.dumps(state))
