"""CTranslate2, which brings a padded batch of its own and drops finished rows; it has no server, so LitServe is its."""

from collections.abc import Sequence
from pathlib import Path

import ctranslate2
from ctranslate2.converters import TransformersConverter
from transformers import AutoTokenizer

from benchmarks.peers.items import Item, by_beams

CONVERTED = ".ctranslate2"  # beside the files of the folder; what is hidden is no part of a checkpoint


def convert(folder: Path) -> Path:
    """What its converter makes of a Hugging Face folder, once; numbers of other types are made of these in loading."""
    target = folder / CONVERTED
    if not target.exists():
        TransformersConverter(str(folder)).convert(str(target))
    return target


class Translator:
    """A Hugging Face folder that was converted. Its kernels use `threads` cores together."""

    def __init__(self, folder: Path, precision: str, length: int, threads: int) -> None:
        """precision: float32 or int8. length: tokens of every summary."""
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._translator = ctranslate2.Translator(
            str(folder / CONVERTED), device="cpu", compute_type=precision, inter_threads=1, intra_threads=threads
        )
        self._length = length

    def summarize(self, items: Sequence[Item]) -> list[str]:
        """One summary for each item, in order; those with as many beams are decoded together."""
        return by_beams(items, self._summarize)

    def _summarize(self, texts: Sequence[str], beams: int) -> list[str]:
        tokenizer = self._tokenizer
        sources = tokenizer(list(texts), truncation=True).input_ids
        found = self._translator.translate_batch(
            [tokenizer.convert_ids_to_tokens(ids) for ids in sources],
            beam_size=beams,
            min_decoding_length=self._length,
            max_decoding_length=self._length,
        )
        written = (tokenizer.convert_tokens_to_ids(each.hypotheses[0]) for each in found)
        return [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in written]
