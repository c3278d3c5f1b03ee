"""Checkpoint folders in the form of Hugging Face, small, random and made on the spot: nothing is downloaded.

Their tokenizers are trained on a few sentences and lie there as published ones do.
"""

import functools
import importlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    MarianConfig,
    MBartConfig,
    PegasusConfig,
    PreTrainedConfig,
    T5Config,
)

from app.models.checkpoint import write_manifest
from tests.texts import CORPUS

SENTENCES = (
    *CORPUS,
    "Rain fell on the hills for nine days, and the river rose by two metres before it fell again.",
    "The school will teach ten languages from next year, it said in a letter to parents.",
    "مرحبا بالعالم، هذا نص قصير.",
    "Город открыл новый мост через реку.",
)
# The library adds those of mBART that a folder has not.
LANGUAGES = (
    *(
        "ar_AR",
        "cs_CZ",
        "de_DE",
        "en_XX",
        "es_XX",
        "et_EE",
        "fi_FI",
        "fr_XX",
        "gu_IN",
        "hi_IN",
        "it_IT",
        "ja_XX",
        "kk_KZ",
    ),
    *("ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN"),
)
_SMALL = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
}
_SMALL_T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_MARIAN = {"eos_token_id": 0, "forced_eos_token_id": 0}


def write_bart_tokenizer(folder: Path) -> int:
    """Byte-level BPE, `<s>` before and `</s>` after a text; the number of tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return _write(folder, tokenizer, "BartTokenizerFast", names, add_prefix_space=False)


def write_t5_tokenizer(folder: Path) -> int:
    """SentencePiece, `</s>` after a text, and 100 sentinels at the end; the number of tokens."""
    (folder / "spiece.model").write_bytes(content := sentencepiece_model(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    sentinels = [f"<extra_id_{number}>" for number in range(99, -1, -1)]
    pieces = _pieces(content) + [(sentinel, 0.0) for sentinel in sentinels]
    tokenizer = _unigram(content, pieces, 2, ["<pad>", "</s>", "<unk>", *sentinels], ("$A", "</s>"))
    names = {"eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
    return _write(folder, tokenizer, "T5TokenizerFast", names, extra_ids=100, additional_special_tokens=sentinels[::-1])


def write_pegasus_tokenizer(folder: Path) -> int:
    """SentencePiece, whose ids begin after 103 others, `</s>` after a text; the number of tokens."""
    (folder / "spiece.model").write_bytes(content := sentencepiece_model(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    special = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{number}>" for number in range(2, 103))]
    pieces = [(name, -100.0 if name.startswith("<unk_") else 0.0) for name in special] + _pieces(content)[2:]
    tokenizer = _unigram(content, pieces, 105, [*special, "<unk>"], ("$A", "</s>"))
    names = {"eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask_2>"}
    additional = ["<mask_1>", *special[4:]]
    return _write(folder, tokenizer, "PegasusTokenizerFast", names, offset=103, additional_special_tokens=additional)


def write_mbart_tokenizer(folder: Path, source_language: str = "en_XX") -> int:
    """SentencePiece, `</s>` and the language of the source after a text; the number of tokens."""
    (folder / "sentencepiece.bpe.model").write_bytes(content := sentencepiece_model())
    first = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(name, 0.0) for name in first] + _pieces(content)[3:]
    pieces += [(name, 0.0) for name in (*LANGUAGES, "<mask>")]
    around = ("$A", "</s>", source_language)
    tokenizer = _unigram(content, pieces, 3, [*first, *LANGUAGES, "<mask>"], around)
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    rest = {"additional_special_tokens": list(LANGUAGES), "src_lang": source_language, "tgt_lang": None}
    return _write(folder, tokenizer, "MBartTokenizerFast", names, **rest)


def write_marian_tokenizer(folder: Path) -> int:
    """A SentencePiece model for each side and ids of their own, `</s>` after a text; the number of tokens."""
    source, target = sentencepiece_model(), sentencepiece_model(SENTENCES[:3])
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    learned = dict.fromkeys(piece for model in (source, target) for piece, _ in _pieces(model)[3:])
    tokens = ["</s>", "<unk>", *learned, ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    names = {"eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
    rest = {"source_lang": "eng", "target_lang": "fra", "separate_vocabs": False}
    _write_config(folder, "MarianTokenizer", names, **rest)
    return len(tokens)


WRITE_TOKENIZER: Mapping[str, Callable[[Path], int]] = {
    "bart": write_bart_tokenizer,
    "t5": write_t5_tokenizer,
    "pegasus": write_pegasus_tokenizer,
    "mbart": write_mbart_tokenizer,
    "marian": write_marian_tokenizer,
}


def config_of(architecture: str, vocabulary_size: int, **changes: Any) -> PreTrainedConfig:
    """A small network with the special tokens of the tokenizers above."""
    last = vocabulary_size - 1
    kind, options = {
        "bart": (BartConfig, _SMALL),
        "t5": (T5Config, _SMALL_T5),
        "pegasus": (PegasusConfig, _SMALL),
        "mbart": (MBartConfig, _SMALL | {"decoder_start_token_id": 2}),
        "marian": (MarianConfig, _SMALL | _MARIAN | {"pad_token_id": last, "decoder_start_token_id": last}),
    }[architecture]
    config: PreTrainedConfig = kind(vocab_size=vocabulary_size, **options | changes)
    return config


def write_folder(store: Path, architecture: str, name: str | None = None, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint as published, with random weights, and its manifest; `changes` are of its configuration."""
    folder = store / (name or architecture)
    folder.mkdir(parents=True)
    config = config_of(architecture, WRITE_TOKENIZER[architecture](folder), **changes)
    torch.manual_seed(seed)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    write_manifest(folder)
    return folder


@functools.cache
def sentencepiece_model(sentences: tuple[str, ...] = SENTENCES, **ids: Any) -> bytes:
    """Unigram pieces in SentencePiece's own form, with its usual normalization."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=300,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return written.getvalue()


def _pieces(content: bytes) -> list[tuple[str, float]]:
    model = sentencepiece.SentencePieceProcessor(model_proto=content)
    return [(model.id_to_piece(index), model.get_score(index)) for index in range(len(model))]


def _unigram(
    content: bytes, pieces: list[tuple[str, float]], unknown: int, special: Iterable[str], around: Iterable[str]
) -> Tokenizer:
    """A SentencePiece model as the library converts it for `tokenizer.json`."""
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(_charsmap(content)), spaces])
    metaspace = pre_tokenizers.Metaspace()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(special))
    ids = [(name, tokenizer.token_to_id(name)) for name in around if name != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=list(around), special_tokens=ids)
    return tokenizer


def _charsmap(content: bytes) -> bytes:
    messages = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    charsmap: bytes = messages.ModelProto.FromString(content).normalizer_spec.precompiled_charsmap
    return charsmap


def _write(folder: Path, tokenizer: Tokenizer, kind: str, names: Mapping[str, str], **rest: Any) -> int:
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_config(folder, kind, names, **rest)
    return tokenizer.get_vocab_size()


def _write_config(folder: Path, kind: str, names: Mapping[str, str], **rest: Any) -> None:
    special = {f"{name}_token": token for name, token in names.items()}
    whole = {**special, "model_max_length": 64, "clean_up_tokenization_spaces": False, "tokenizer_class": kind, **rest}
    (folder / "tokenizer_config.json").write_text(json.dumps(whole, indent=2))
