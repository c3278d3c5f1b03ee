"""The library's own `generate`, in static batches, as its documentation has it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks.peers.items import Item, by_beams


class Generator:
    """A Hugging Face folder. Not thread-safe: one batch at a time."""

    def __init__(self, folder: Path, precision: str, length: int) -> None:
        """precision: float32 or bfloat16. length: tokens of every summary; 0 leaves that to the checkpoint."""
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        network = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, precision))
        self._network = network.to(self._device).eval()
        self._lengths = {"min_new_tokens": length, "max_new_tokens": length} if length else {}

    def summarize(self, items: Sequence[Item]) -> list[str]:
        """One summary for each item, in order; those with as many beams are decoded together."""
        return by_beams(items, self._summarize)

    @torch.inference_mode()
    def _summarize(self, texts: Sequence[str], beams: int) -> list[str]:
        sources = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self._device)
        written = self._network.generate(
            input_ids=sources["input_ids"],
            attention_mask=sources["attention_mask"],
            num_beams=beams,
            do_sample=False,
            **self._lengths,
        )
        return [text.strip() for text in self._tokenizer.batch_decode(written, skip_special_tokens=True)]
