"""A BART from nothing, as something that learns, and as the Hugging Face folder that everybody can load.

Small enough that one core trains it: about 50 pairs a second.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Bpe
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from app.models.lstm.tokenizer import END, PAD, SPECIAL_TOKENS, START
from training.data import Batch
from training.export import Card, draft_of
from training.train import TrainingConfig, choose_device, choose_precision

AROUND = 2  # tokens: `<s>` before a source and `</s>` behind it, or the start of a summary and its end


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a BART (Lewis et al. 2020), the same on both sides. `positions` is that of the longer side, in tokens."""

    vocabulary_size: int
    positions: int
    model: int = 256
    layers: int = 3
    heads: int = 4
    feed_forward: int = 1024
    dropout: float = 0.1

    def config(self) -> BartConfig:
        """`normalize_before` is for converters that want to be told what BART always does."""
        values: dict[str, Any] = {
            "vocab_size": self.vocabulary_size,
            "max_position_embeddings": self.positions,
            "d_model": self.model,
            "dropout": self.dropout,
            "pad_token_id": PAD,
            "bos_token_id": START,
            "eos_token_id": END,
            "decoder_start_token_id": START,
            "forced_eos_token_id": None,
            "normalize_before": False,
        }
        for side in ("encoder", "decoder"):
            values[f"{side}_layers"] = self.layers
            values[f"{side}_attention_heads"] = self.heads
            values[f"{side}_ffn_dim"] = self.feed_forward
        return BartConfig(**values)


class LibraryTokenizer:
    """Byte-level BPE as the library reads it: texts as they are, but that words stand one space apart."""

    def __init__(self, bpe: Bpe) -> None:
        bpe.encode_special_tokens = True  # what they are named is text like any other
        self._bpe = bpe

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(Bpe.from_file(str(path)))

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, language: str = "en") -> Self:
        """A vocabulary for a language that writes its words apart (BCP 47). Raises ValueError for another one."""
        if language.lower().split("-")[0] in ("zh", "ja"):
            raise ValueError(f"language {language!r} has no space between words; use `python -m training run`")
        bpe = Bpe(models.BPE())
        spaces = [normalizers.Replace(Regex("\n"), " "), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
        bpe.normalizer = normalizers.Sequence(spaces)
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = decoders.ByteLevel()
        _, start, end = SPECIAL_TOKENS
        around = [(start, START), (end, END)]
        bpe.post_processor = processors.TemplateProcessing(f"{start} $A {end}", special_tokens=around)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    def save(self, path: Path) -> None:
        self._bpe.save(str(path), pretty=False)

    @property
    def vocabulary_size(self) -> int:
        return self._bpe.get_vocab_size()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of each text alone, nothing around it."""
        return [each.ids for each in self._bpe.encode_batch_fast(list(texts), add_special_tokens=False)]

    def export(self, folder: Path, longest: int) -> None:
        """The library's own files, for texts of up to so many tokens."""
        pad, start, end = SPECIAL_TOKENS
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=self._bpe, pad_token=pad, bos_token=start, eos_token=end, model_max_length=longest + AROUND
        )
        tokenizer.save_pretrained(folder)


class BartLearner:
    """Of a run that was prepared with this vocabulary."""

    def __init__(self, run: Path, sizes: Sizes, config: TrainingConfig, card: Card) -> None:
        self.card, self._tokenizer = card, run / "tokenizer.json"
        self.device = choose_device(config.device)
        self._dtype = choose_precision(config.precision, self.device)
        torch.manual_seed(config.seed)
        self.model = BartForConditionalGeneration(sizes.config()).train()
        self.model.to(self.device)
        self.model.generation_config = generation(card)

    def gradients(self, batch: Batch, seed: int) -> tuple[float, int]:
        torch.manual_seed(seed)
        self.model.zero_grad()
        loss, tokens = self._likelihood(batch)
        (loss / tokens).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return loss.item(), tokens

    def loss(self, batch: Batch) -> tuple[float, int]:
        loss, tokens = self._likelihood(batch)
        return loss.item(), tokens

    def publish(self, target: Path) -> None:
        """What the library writes, what this project wants to know beside it, and a card."""
        disable_progress_bar()  # type: ignore[no-untyped-call]
        with draft_of(target) as draft:
            self.model.save_pretrained(draft)
            LibraryTokenizer.load(self._tokenizer).export(draft, self.card.limits.max_source_tokens)
            limits = {"max_summary_tokens": self.card.limits.max_summary_tokens}
            told = {"language": self.card.language, "description": self.card.description, "limits": limits}
            (draft / "precis.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            (draft / "README.md").write_text(self.card.readme, encoding="utf-8")

    def _likelihood(self, batch: Batch) -> tuple[Tensor, int]:
        """Summed negative log-likelihood of a batch's targets, end tokens included, and their number."""
        source = enclosed(batch.source, batch.lengths)
        with torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            logits = self.model(
                input_ids=source, attention_mask=source != PAD, decoder_input_ids=batch.inputs, use_cache=False
            ).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), ignore_index=PAD, reduction="sum")
        return loss, int((batch.targets != PAD).sum())


def enclosed(source: Tensor, lengths: Tensor) -> Tensor:
    """Padded sources (B, S) of these lengths (B,), with `<s>` before and `</s>` behind each: (B, S + 2)."""
    longer = F.pad(source, (1, 1), value=PAD)
    longer[:, 0] = START
    return longer.scatter(1, (lengths + 1).unsqueeze(1), END)


def generation(card: Card) -> GenerationConfig:
    """The card's options as `generate` counts them: the start token and the end are tokens there."""
    options = card.decoding
    return GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=options.num_beams,
        max_length=options.max_length + AROUND,
        length_penalty=options.length_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
    )
