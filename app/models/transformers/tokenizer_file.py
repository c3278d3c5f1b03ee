"""What the tokenizer of a Hugging Face folder may be, and how it is read.

Its files come from anywhere. What is read is data of known kinds, of a size that fits the vocabulary; a pattern that
is tried for ever, a normalizer that makes a book of every word, or a map that leads out of itself is refused before a
library sees it. Nothing is taken over of truncation and padding: a text is never cut unsaid.
"""

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from app.errors import CheckpointError, in_one_line
from app.models.checkpoint import Checkpoint, few, parse_json
from app.models.tokens import BYTE_OF
from app.models.transformers.tokenizer import Around, JsonSegmenter, PieceSegmenter, SourceTokenizer

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocab.json"  # of Marian
BYTES_PER_TOKEN, BYTES_BESIDES = 256, 4 << 20  # of a file: 30 to 90 are usual, and a map of characters
CONFIG_BYTES = 4 << 20  # some list every special token
LONGEST_EXPANSION = 128  # bytes that one character may become; 33 in Unicode
MOST_AROUND = 16  # special tokens before and after a text

_KINDS = {
    "model": {"BPE", "Unigram"},
    "normalizer": {"Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Precompiled", "Replace", "Strip", "StripAccents"},
    "pre_tokenizer": {"ByteLevel", "Metaspace", "WhitespaceSplit"},
    "post_processor": {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"},
}
_SEVERAL = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors"}
_REPLACED = [{kind: sign} for kind, sign in (("Regex", " {2,}"), ("Regex", "\n"), ("String", "``"), ("String", "''"))]
_LANGUAGE = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")  # "en_XX", "eng_Latn"
_TARGET_LANGUAGE = re.compile(r">>[^<]*<<")  # before a source of Marian
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_AGAIN = "copy it again from where it was published"


def read_tokenizer(checkpoint: Checkpoint, vocabulary_size: int, prefix: str = "") -> SourceTokenizer:
    """The tokenizer of a checkpoint whose network has so many tokens; `prefix` is what stands before every source.

    Raises CheckpointError when there is none, or it is of another kind, damaged, or does not fit the network.
    """
    config = checkpoint.read_json(CONFIG, CONFIG_BYTES) if CONFIG in checkpoint else {}
    if not isinstance(config, dict):
        raise CheckpointError(f"{checkpoint.folder / CONFIG}: not a JSON object; {_AGAIN}")
    if SOURCE in checkpoint:
        return _read_marian(checkpoint, vocabulary_size, prefix, config)
    if FILE in checkpoint:
        return _read_json(checkpoint, vocabulary_size, prefix, config)
    raise CheckpointError(f"{checkpoint.folder}: there is no {FILE}; make it with `precis models import`")


def _read_json(checkpoint: Checkpoint, size: int, prefix: str, config: Mapping[str, Any]) -> SourceTokenizer:
    path = checkpoint.folder / FILE
    state = parse_json(checkpoint.read(FILE, _most_bytes(size)), path)
    with _refusal(path):
        _check_kinds(state)
        special = _special_names(config) | {token["content"] for token in state["added_tokens"] if token["special"]}
        unknown = _unknown(state)
        hidden = _hide(state, special - {unknown})
        tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.encode_special_tokens = True  # what they are named is text like any other
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        silent = hidden | ({unknown} & special)
        written = _written(state, {token: index for token, index in vocabulary.items() if token not in silent}, size)
        segmenter = JsonSegmenter(tokenizer)
        before, after = _around(tokenizer, config.get("src_lang"), size)
        before += tuple(segmenter.ids(prefix.rstrip()))
        tidy = bool(config.get("clean_up_tokenization_spaces")) and not _is_byte_level(state)
        return SourceTokenizer(segmenter, segmenter, written, (before, after), _lead(prefix), tidy)


def _read_marian(checkpoint: Checkpoint, size: int, prefix: str, config: Mapping[str, Any]) -> SourceTokenizer:
    """Two models, one for each side, whose pieces share the ids of `vocab.json`."""
    path = checkpoint.folder / VOCABULARY
    vocabulary = checkpoint.read_json(VOCABULARY, _most_bytes(size))
    with _refusal(path):
        _check_vocabulary(vocabulary, size)
        if config.get("separate_vocabs"):
            raise ValueError("each side has a vocabulary of its own, which is not served")
        names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        special = {name: vocabulary[_content(config.get(name) or usual)] for name, usual in names.items()}
        plain = {piece: index for piece, index in vocabulary.items() if index not in special.values()}
    source, target = (
        PieceSegmenter(_sentencepiece(checkpoint, name, size), plain, special["unk_token"]) for name in (SOURCE, TARGET)
    )
    written = [b""] * size
    for piece, index in plain.items():
        written[index] = piece.replace("▁", " ").encode()
    code = _TARGET_LANGUAGE.match(prefix)
    with _refusal(path):
        before = [vocabulary[code.group()]] if code else []
    before += source.ids(prefix[code.end() if code else 0 :])
    tidy = bool(config.get("clean_up_tokenization_spaces"))
    around = tuple(before), (special["eos_token"],)
    return SourceTokenizer(source, target, written, around, _lead(prefix), tidy)


def _most_bytes(size: int) -> int:
    return BYTES_PER_TOKEN * size + BYTES_BESIDES


def _lead(prefix: str) -> str:
    """The last space of a prefix is read with the word after it."""
    return " " if prefix[-1:].isspace() else ""


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """One line for whatever is wrong: the libraries raise all kinds of exceptions, and so does a wrong form."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else in_one_line(error)
        raise CheckpointError(f"{path}: not a tokenizer that can be served: {said[:300]}; {_AGAIN}") from error


def _check_kinds(state: Any) -> None:
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise ValueError("it has no `model`")
    state["model"].setdefault("type", "Unigram" if isinstance(state["model"]["vocab"], list) else "BPE")
    for name, kinds in _KINDS.items():
        for part in _parts(state, name):
            if part["type"] not in kinds:
                raise ValueError(f"a {name} of the kind {few([str(part['type'])])}")
    if not {"ByteLevel", "Metaspace"} & {part["type"] for part in _parts(state, "pre_tokenizer")}:
        raise ValueError("neither byte-level nor SentencePiece")
    for part in _parts(state, "normalizer"):
        if part["type"] == "Replace" and (part["pattern"] not in _REPLACED or len(part["content"]) > 1):
            raise ValueError("a normalizer that replaces other than spaces, line ends and quotation marks")
        if part["type"] == "Precompiled":
            check_charsmap(base64.b64decode(part["precompiled_charsmap"] or b""))


def _parts(state: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    part = state.get(name)
    if part is None:
        return []
    parts: list[dict[str, Any]] = part[_SEVERAL[name]] if part["type"] == "Sequence" else [part]
    return parts


def _is_byte_level(state: Mapping[str, Any]) -> bool:
    return any(part["type"] == "ByteLevel" for part in _parts(state, "pre_tokenizer"))


def _special_names(config: Mapping[str, Any]) -> set[str]:
    """Those that `tokenizer_config.json` names."""
    named = [token for name, token in config.items() if name.endswith("_token") and token]
    lists = [config.get(f"{name}_special_tokens") for name in ("additional", "extra")]
    return {*map(_content, named), *(_content(token) for tokens in lists if tokens for token in tokens)}


def _content(token: Any) -> str:
    content: str = token["content"] if isinstance(token, dict) else token
    return content


def _unknown(state: dict[str, Any]) -> str | None:
    """The token of what no other writes; byte-level BPE needs none."""
    model = state["model"]
    if _is_byte_level(state):
        model["unk_token"] = None
    unknown: str | None = model["vocab"][model["unk_id"]][0] if model["type"] == "Unigram" else model.get("unk_token")
    return unknown


def _hide(state: dict[str, Any], special: Collection[str]) -> set[str]:
    """Give special tokens names that no text has, for the models of the library know no difference; those names.

    A space is in no piece of a text: it stands as "▁" or "Ġ" there. Nor is anything cut, filled up or left to chance.
    """
    state["truncation"] = state["padding"] = None
    model = state["model"]
    if model["type"] == "BPE":
        model["dropout"] = None
        model["vocab"] = {_hidden(token, special): index for token, index in model["vocab"].items()}
        if _is_byte_level(state) and (missing := BYTE_OF.keys() - model["vocab"].keys()):
            raise ValueError(f"{len(missing)} of 256 bytes have no token")
    else:
        model["vocab"] = [[_hidden(token, special), score] for token, score in model["vocab"]]
    for added in state["added_tokens"]:
        added["special"] = added["special"] or added["content"] in special  # others are found in every text
        added["content"] = _hidden(added["content"], special)
    return {_hidden(token, special) for token in special}


def _hidden(token: str, special: Collection[str]) -> str:
    return f" {token}" if token in special else token


def _written(state: Mapping[str, Any], vocabulary: Mapping[str, int], size: int) -> list[bytes]:
    """What each token writes; the network may have more of them than the vocabulary."""
    if beyond := [token for token, index in vocabulary.items() if index >= size]:
        raise ValueError(f"{few(beyond)} is beyond the {size:,} tokens of config.json")
    spell = _spell_bytes if _is_byte_level(state) else _spell_piece
    written = [b""] * size
    for token, index in vocabulary.items():
        written[index] = spell(token)
    return written


def _spell_bytes(token: str) -> bytes:
    """A token that was added later stands there as it is."""
    known = all(character in BYTE_OF for character in token)
    return bytes(BYTE_OF[character] for character in token) if known else token.encode()


def _spell_piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes.fromhex(byte.group(1)) if byte else token.replace("▁", " ").encode()


def _around(tokenizer: Tokenizer, language: str | None, size: int) -> Around:
    """What stands before and after a text; of languages, that of the source as it is configured."""
    encoding = tokenizer.encode("a")
    mask: list[int] = encoding.special_tokens_mask
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    ids = [_in_language(tokenizer, index, language) if language else index for index in encoding.ids]
    before, after = tuple(ids[:first]), tuple(ids[last:])
    if len(before + after) > MOST_AROUND or not all(index < size for index in before + after):
        raise ValueError("what it puts around a text is too much, or not in the vocabulary")
    return before, after


def _in_language(tokenizer: Tokenizer, index: int, language: str) -> int:
    """Another language in the place of one, anything else as it is."""
    if not _LANGUAGE.fullmatch((tokenizer.id_to_token(index) or "").strip()):
        return index
    code: int | None = tokenizer.token_to_id(f" {language}")
    if code is None:
        raise ValueError(f"src_lang is {few([language])}, which is none of its special tokens")
    return code


def _check_vocabulary(vocabulary: Any, size: int) -> None:
    if not isinstance(vocabulary, dict) or not all(type(index) is int for index in vocabulary.values()):
        raise ValueError("not an object of tokens and their ids")
    ids = {*vocabulary.values()}
    if len(ids) < len(vocabulary) or not ids <= {*range(size)}:
        raise ValueError(f"the ids are not of those from 0 to {size - 1:,}, each once")


def _sentencepiece(checkpoint: Checkpoint, name: str, size: int) -> SentencePieceProcessor:
    content = checkpoint.read(name, _most_bytes(size))
    with _refusal(checkpoint.folder / name):
        if not content:
            raise ValueError("it is empty")
        for number, specification in _fields(content):
            if number in (3, 5):  # how texts are normalized, and the way back
                for part, value in _fields(specification):
                    if part == 2:
                        check_charsmap(value)
        return SentencePieceProcessor(model_proto=content)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of Protocol Buffers that have a length, with their numbers."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 2:
            length, place = _varint(message, place)
            yield key >> 3, message[place : place + length]
            place += length
        elif key & 7 == 0:
            _, place = _varint(message, place)
        else:
            place += {1: 8, 5: 4}[key & 7]


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while message[place] & 0x80:
        value |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1


def check_charsmap(charsmap: bytes) -> None:
    """A map of SentencePiece's normalization: a double-array trie of UTF-8 whose leaves point at strings after it.

    `tokenizers` looks not where the trie leads, and neither library how much it makes of a character.
    Raises ValueError where it leads out of itself, or an entry is long.
    """
    if not charsmap:
        return
    end = 4 + int.from_bytes(charsmap[:4], "little")
    units, strings = np.frombuffer(charsmap[4:end], dtype="<u4"), np.frombuffer(charsmap[end:], dtype=np.uint8)
    inner = units >> 31 == 0
    bases = np.arange(len(units), dtype=np.uint32) ^ ((units >> 10) << ((units & 0x200) >> 6))
    if not len(units) or not (bases[inner] | 0xFF < len(units)).all():
        raise ValueError("its map of characters leads out of itself")
    leaves = units[bases[inner & (units & 0x100 != 0)]] & 0x7FFFFFFF
    ends = np.flatnonzero(np.append(strings, 0) == 0)
    if not np.isin(leaves, [0, *(ends[:-1] + 1)]).all():
        raise ValueError("its map of characters leads to no string")
    if np.diff(ends, prepend=-1).max() > LONGEST_EXPANSION:
        raise ValueError("its map of characters makes too much of one")
