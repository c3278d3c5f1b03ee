"""Files from anywhere are read as data of known kinds and fitting sizes, or refused in one line."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.transformers import tokenizer_file as module
from app.models.transformers.tokenizer import SourceTokenizer
from app.models.transformers.tokenizer_file import read_tokenizer
from tests.models.transformers.folders import SENTENCES, WRITE_TOKENIZER, sentencepiece_model

Change = Callable[[dict[str, Any]], object]
JSON = ("bart", "t5", "pegasus", "mbart")
BOMB = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 9999}
FOR_EVER = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
TEXT = " ".join(SENTENCES)


def read(folder: Path, size: int) -> SourceTokenizer:
    write_manifest(folder)
    return read_tokenizer(Checkpoint(folder), size)


def changed(folder: Path, name: str, change: Change) -> None:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def numbered(*cases: tuple[Callable[..., object], str]) -> list[object]:
    return [pytest.param(*case, id=f"{number}") for number, case in enumerate(cases)]


def refusal(folder: Path, size: int, name: str) -> str:
    """What is said of a file that cannot be used: one line, with what to do after what is wrong."""
    with pytest.raises(CheckpointError) as refused:
        read(folder, size)
    line = str(refused.value)
    assert "\n" not in line
    assert "; " in line
    assert line.startswith(f"{folder / name}: ")
    return line


@pytest.mark.parametrize("architecture", JSON)
def test_truncation_padding_and_dropout_of_a_file_are_forgotten(tmp_path: Path, architecture: str) -> None:
    size = WRITE_TOKENIZER[architecture](tmp_path)
    expected = read(tmp_path, size).encode(TEXT).ids
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=1000)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    if architecture == "bart":
        changed(tmp_path, "tokenizer.json", lambda state: state["model"].update(dropout=0.5))
    assert read(tmp_path, size).encode(TEXT).ids == expected


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (lambda s: s.update(normalizer=BOMB), "a normalizer that replaces other than spaces"),
        (lambda s: s["normalizer"]["normalizers"].append(BOMB), "a normalizer that replaces other than spaces"),
        (lambda s: s.update(normalizer={"type": "Prepend", "prepend": "e" * 9999}), "a normalizer of the kind Prepend"),
        (lambda s: s.update(normalizer={"type": "Sequence", "normalizers": [s["normalizer"]]}), "of the kind Sequence"),
        (lambda s: s.update(pre_tokenizer=FOR_EVER), "a pre_tokenizer of the kind Split"),
        (lambda s: s["pre_tokenizer"]["pretokenizers"].append(FOR_EVER), "a pre_tokenizer of the kind Split"),
        (lambda s: s["pre_tokenizer"]["pretokenizers"].pop(), "neither byte-level nor SentencePiece"),
        (lambda s: s.update(pre_tokenizer=None), "neither byte-level nor SentencePiece"),
        (lambda s: s["model"].update(type="WordPiece"), "a model of the kind WordPiece"),
        (lambda s: s.update(post_processor={"type": "\u202e\n" * 200}), "a post_processor of the kind '\\u202e\\n"),
        (lambda s: s.update(model=[]), "it has no `model`"),
        (lambda s: s.pop("model"), "it has no `model`"),
        (lambda s: s.pop("added_tokens"), "'added_tokens' is missing"),
        (lambda s: s["model"].update(unk_id=1 << 40), "list index out of range"),
        (lambda s: s["model"].update(vocab=[["a", 0.0], 7]), "not a tokenizer that can be served"),
        (lambda s: s["model"]["vocab"].insert(5, ["\ud800", 0.0]), "not a tokenizer that can be served"),
    ),
)
def test_what_is_of_another_kind_is_refused_before_the_library_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    size = WRITE_TOKENIZER["t5"](tmp_path)
    changed(tmp_path, "tokenizer.json", change)
    if "served" not in said:
        monkeypatch.setattr(module, "Tokenizer", None)
    assert said in refusal(tmp_path, size, "tokenizer.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "[" * 30_000, '{"a":' * 5_000, "\x1f\x8b\x08gzip", '{"a":1,"a":1}']
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, name: str, content: str) -> None:
    size = WRITE_TOKENIZER["t5"](tmp_path)
    (tmp_path / name).write_text(content)
    refusal(tmp_path, size, name)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("t5", "tokenizer.json"), ("marian", "source.spm"), ("marian", "target.spm"), ("marian", "vocab.json")],
)
def test_a_bomb_is_not_read(tmp_path: Path, architecture: str, name: str) -> None:
    size = WRITE_TOKENIZER[architecture](tmp_path)
    with (tmp_path / name).open("wb") as opened:
        opened.truncate(most := size * module.BYTES_PER_TOKEN + module.BYTES_BESIDES + 1)
    assert f"{most:,} bytes, where at most {most - 1:,} belong" in refusal(tmp_path, size, name)


def test_a_folder_without_a_tokenizer_is_sent_to_the_import(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model())
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no tokenizer.json; make it with `precis models import`"):
        read_tokenizer(Checkpoint(tmp_path), 100)


@pytest.mark.parametrize("architecture", sorted(WRITE_TOKENIZER))
def test_a_token_beyond_the_network_is_refused_but_for_special_ones(tmp_path: Path, architecture: str) -> None:
    """The vocabulary of bart-large-cnn ends before its `<mask>`."""
    size = WRITE_TOKENIZER[architecture](tmp_path)
    larger = read(tmp_path, size + 28).pieces
    assert larger == (*read(tmp_path, size).pieces, *[""] * 28)
    name = "vocab.json" if architecture == "marian" else "tokenizer.json"
    assert refusal(tmp_path, 130, name)
    if architecture == "mbart":
        assert read(tmp_path, size - 1).pieces == larger[: size - 1]


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (lambda s: s["model"]["vocab"].update(aaaa=s["model"]["vocab"].pop("a")), "1 of 256 bytes have no token"),
        (lambda s: s["model"]["merges"].append(["a", "~~~"]), "not a tokenizer that can be served"),
        (lambda s: s["model"]["vocab"].update(a="b"), "not a tokenizer that can be served"),
        (lambda s: s["model"]["vocab"].update(a=-1), "not a tokenizer that can be served"),
        (lambda s: s["model"]["vocab"].update(a=1 << 31), "a is beyond the 340 tokens"),
    ),
)
def test_a_byte_level_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, change: Change, said: str) -> None:
    size = WRITE_TOKENIZER["bart"](tmp_path)
    changed(tmp_path, "tokenizer.json", change)
    assert said in refusal(tmp_path, size, "tokenizer.json")


def test_a_merge_that_writes_a_special_token_is_refused(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["bart"](tmp_path)

    def change(state: dict[str, Any]) -> None:
        state["model"]["vocab"]["<s"] = state["model"]["vocab"].pop("ĠGreyford", size - 1)
        state["model"]["merges"] = [["<", "s"], ["<s", ">"]]

    changed(tmp_path, "tokenizer.json", change)
    refusal(tmp_path, size, "tokenizer.json")


def test_special_tokens_are_those_of_the_configuration_too(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["t5"](tmp_path)
    changed(tmp_path, "tokenizer.json", lambda state: [token.update(special=False) for token in state["added_tokens"]])
    tokenizer = read(tmp_path, size)
    assert not {0, 1, size - 1} & {*tokenizer.encode("a </s> <pad> <extra_id_0>").ids}
    assert tokenizer.decode([4, 1, 0, 5]).text == tokenizer.decode([4, 5]).text


def test_a_language_that_is_no_token_is_refused(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["mbart"](tmp_path)
    changed(tmp_path, "tokenizer_config.json", lambda config: config.update(src_lang="xx_YY"))
    assert "src_lang is xx_YY, which is none of its special tokens" in refusal(tmp_path, size, "tokenizer.json")


def test_too_much_around_a_text_is_refused(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["t5"](tmp_path)
    changed(tmp_path, "tokenizer.json", lambda state: state["post_processor"]["single"].extend(
        state["post_processor"]["single"][-1:] * 16
    ))  # fmt: skip
    assert "what it puts around a text is too much" in refusal(tmp_path, size, "tokenizer.json")


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (lambda v: v.update(a=1 << 70), "the ids are not of those from 0 to"),
        (lambda v: v.update(a=-1), "the ids are not of those from 0 to"),
        (lambda v: v.update(a=0), "each once"),
        (lambda v: v.update(a=True), "not an object of tokens and their ids"),
        (lambda v: v.update(a=[[]]), "not an object of tokens and their ids"),
        (lambda v: v.pop("<unk>"), "'<unk>' is missing"),
        (lambda v: v.pop("</s>"), "'</s>' is missing"),
    ),
)
def test_a_vocabulary_of_marian_that_does_not_fit_is_refused(tmp_path: Path, change: Change, said: str) -> None:
    size = WRITE_TOKENIZER["marian"](tmp_path)
    changed(tmp_path, "vocab.json", change)
    assert said in refusal(tmp_path, size, "vocab.json")


def test_vocabularies_of_their_own_for_each_side_are_refused(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["marian"](tmp_path)
    changed(tmp_path, "tokenizer_config.json", lambda config: config.update(separate_vocabs=True))
    assert "each side has a vocabulary of its own" in refusal(tmp_path, size, "vocab.json")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b"\x0a\xff\xff\xff\xff\x0f", b"\x1b" * 99, b"\xff" * 99], ids=range(6)
)
@pytest.mark.parametrize("name", ["source.spm", "target.spm"])
def test_what_is_no_sentencepiece_model_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    size = WRITE_TOKENIZER["marian"](tmp_path)
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path, size, name)


def charsmap_of(folder: Path) -> bytearray:
    state = json.loads((folder / "tokenizer.json").read_text())
    return bytearray(base64.b64decode(state["normalizer"]["normalizers"][0]["precompiled_charsmap"]))


def with_offset(charsmap: bytearray, offset: int) -> None:
    """The first unit leads further away."""
    charsmap[4:8] = np.uint32(offset << 10).tobytes()


def strings_of(charsmap: bytearray) -> int:
    """Where they begin."""
    return 4 + int.from_bytes(charsmap[:4], "little")


def with_leaves(charsmap: bytearray, value: int) -> None:
    """Every leaf says so."""
    units = np.frombuffer(charsmap, dtype="<u4", offset=4, count=strings_of(charsmap) // 4 - 1)
    units[units >> 31 == 1] = value | 1 << 31


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (lambda charsmap: with_offset(charsmap, (1 << 21) - 1), "its map of characters leads out of itself"),
        (lambda charsmap: with_leaves(charsmap, 1 << 30), "its map of characters leads to no string"),
        (
            lambda charsmap: with_leaves(charsmap, bytes(charsmap).rindex(0, 0, -1) - strings_of(charsmap) + 2),
            "its map of characters leads to no string",
        ),
        (lambda charsmap: charsmap.__delitem__(slice(-30_000, None)), "its map of characters leads to no string"),
        (lambda charsmap: charsmap.__delitem__(slice(4, None)), "its map of characters leads out of itself"),
        (lambda charsmap: charsmap.extend(b"e" * 200), "its map of characters makes too much of one"),
    ),
)
def test_a_map_of_characters_that_leads_astray_or_makes_a_book_of_a_word_is_refused(
    tmp_path: Path, change: Callable[[bytearray], object], said: str
) -> None:
    size = WRITE_TOKENIZER["t5"](tmp_path)
    whole = bytes(charsmap := charsmap_of(tmp_path))
    change(charsmap)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(
        text.replace(base64.b64encode(whole).decode(), base64.b64encode(charsmap).decode())
    )
    assert said in refusal(tmp_path, size, "tokenizer.json")


def test_a_map_of_characters_of_sentencepiece_is_looked_at_too(tmp_path: Path) -> None:
    """The library knows a trie that leads astray, but not a book."""
    size = WRITE_TOKENIZER["marian"](tmp_path)
    content = bytearray((tmp_path / "source.spm").read_bytes())
    place = content.index("صلى الله".encode())
    content[place : place + 300] = b"e" * 300
    (tmp_path / "source.spm").write_bytes(content)
    SentencePieceProcessor(model_proto=bytes(content))
    assert "its map of characters" in refusal(tmp_path, size, "source.spm")


@pytest.mark.parametrize("name", ["source.spm", "vocab.json", "tokenizer.json"])
def test_damage_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    """Bytes are changed here and there: what is still read cuts texts, with offsets of theirs."""
    size = WRITE_TOKENIZER["bart" if name == "tokenizer.json" else "marian"](tmp_path)
    whole = (tmp_path / name).read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            tokens = read(tmp_path, size).encode(TEXT)
        except CheckpointError:
            continue
        assert all(0 <= span.start <= span.end <= len(TEXT) for span in tokens.spans)
