"""A stored tokenizer is byte-level BPE as training writes it, or is refused before the library sees it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Bpe

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.lstm.tokenizer import SPECIAL_TOKENS
from app.models.lstm.tokenizer_file import BYTES_PER_TOKEN, read_tokenizer
from tests.texts import CORPUS, trained_tokenizer

SIZE = 320
Change = Callable[[dict[str, Any]], object]
LATIN = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}


@pytest.fixture(params=["en", "zh"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    trained_tokenizer(SIZE, request.param).save(tmp_path / "tokenizer.json")
    loaded: dict[str, Any] = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    return loaded


def stored(folder: Path, content: object) -> Checkpoint:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    write_manifest(folder)
    return Checkpoint(folder)


def refusal(checkpoint: Checkpoint) -> str:
    """What is said of a tokenizer that cannot be used: one line, with what to do after what is wrong."""
    with pytest.raises(CheckpointError) as refused:
        read_tokenizer(checkpoint, SIZE)
    line = str(refused.value)
    assert "\n" not in line
    assert "; " in line
    assert line.startswith(f"{checkpoint.folder}/tokenizer.json: ")
    return line


def test_a_trained_tokenizer_is_read_as_it_was(state: dict[str, Any], tmp_path: Path) -> None:
    language = "zh" if state["pre_tokenizer"]["type"] == "Sequence" else "en"
    read, trained = read_tokenizer(stored(tmp_path, state), SIZE), trained_tokenizer(SIZE, language)
    assert [read.encode(text) for text in CORPUS] == [trained.encode(text) for text in CORPUS]


def numbered(*cases: tuple[Change, str]) -> list[object]:
    return [pytest.param(*case, id=f"{number}") for number, case in enumerate(cases)]


def swap(vocabulary: dict[str, int], one: str, other: str) -> None:
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (
            lambda s: s.update(normalizer={"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 9999}),
            "normalizer",
        ),
        (lambda s: s.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [LATIN]}), "pre_tokenizer"),
        (lambda s: s.update(pre_tokenizer=None), "pre_tokenizer"),
        (lambda s: s.update(truncation={"max_length": 3, "strategy": "LongestFirst", "stride": 0}), "truncation"),
        (lambda s: s.update(padding={"strategy": {"Fixed": 1 << 40}}), "padding"),
        (lambda s: s.update(post_processor={"type": "ByteLevel"}), "post_processor"),
        (lambda s: s.update(added_tokens=[{"id": 2, "content": "the", "special": True}]), "added_tokens"),
        (lambda s: s.update(version="2.0"), "version"),
        (lambda s: s.update(extra=[[[]]]), "extra"),
        (lambda s: s.pop("decoder"), "decoder"),
        (lambda s: s["model"].update(dropout=0.5), "model.dropout"),
        (lambda s: s["model"].update(type="Unigram"), "model.type"),
        (lambda s: s["model"].update(unk_token="<pad>"), "model.unk_token"),
        (lambda s: s["model"].update(ignore_merges=True), "model.ignore_merges"),
    ),
)
def test_any_other_kind_of_tokenizer_is_refused(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    change(state)
    monkeypatch.setattr(Bpe, "from_buffer", lambda _content: pytest.fail("the library has seen it"))
    assert f"not a tokenizer of this family: {said} is not as in byte-level BPE" in refusal(stored(tmp_path, state))


@pytest.mark.parametrize(
    ("change", "said"),
    numbered(
        (lambda s: s["model"]["vocab"].update(new=SIZE), "321 tokens, but config.json says 320"),
        (lambda s: s["model"]["vocab"].popitem(), "319 tokens, but config.json says 320"),
        (lambda s: s["model"]["vocab"].update(a=1 << 70), "the ids are not those from 0 to 319, each once"),
        (lambda s: s["model"]["vocab"].update(a=-1), "the ids are not those from 0 to 319, each once"),
        (lambda s: s["model"]["vocab"].update(a=5), "the ids are not those from 0 to 319, each once"),
        (lambda s: s["model"]["vocab"].update(a=True), "`vocab` is not an object of tokens and their ids"),
        (lambda s: s["model"]["vocab"].update(a=[[]]), "`vocab` is not an object of tokens and their ids"),
        (lambda s: s["model"].update(vocab=[]), "`vocab` is not an object of tokens and their ids"),
        (lambda s: s["model"].pop("vocab"), "`vocab` is not an object of tokens and their ids"),
        (lambda s: swap(s["model"]["vocab"], "</s>", "a"), f"</s> is not among the first ids {SPECIAL_TOKENS}"),
        (lambda s: s["model"]["vocab"].update({"": s["model"]["vocab"].popitem()[1]}), "a token is empty, or not of"),
        (lambda s: s["model"]["vocab"].update({"北": s["model"]["vocab"].popitem()[1]}), "a token is empty, or not of"),
        (lambda s: s["model"]["vocab"].update(aaaa=s["model"]["vocab"].pop("a")), "1 of 256 bytes have no token"),
        (lambda s: s["model"].update(merges={}), "`merges` is not an array"),
        (lambda s: s["model"]["merges"].append(["a"]), "a merge is not a pair of tokens"),
        (lambda s: s["model"]["merges"].append([1, 2]), "a merge is not a pair of tokens"),
        (lambda s: s["model"]["merges"].append("a b"), "a merge is not a pair of tokens"),
        (lambda s: s["model"]["merges"].append(["a", "~~~"]), "a merge is of something else than tokens"),
        (lambda s: s.update(model=[]), "it has no `model`"),
    ),
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    state: dict[str, Any], tmp_path: Path, change: Change, said: str
) -> None:
    change(state)
    assert f"not a tokenizer of this family: {said}" in refusal(stored(tmp_path, state))


def test_a_merge_that_writes_a_special_token_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    vocabulary: dict[str, int] = state["model"]["vocab"]
    vocabulary["<s"] = vocabulary.popitem()[1]
    state["model"]["merges"] = [["<", "s"], ["<s", ">"]]
    assert "a merge is of something else than tokens" in refusal(stored(tmp_path, state))


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 30_000, '{"a":' * 5_000, "\x1f\x8b\x08gzip"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    refusal(stored(tmp_path, content))


def test_a_bomb_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = stored(tmp_path, "[" + "[]," * SIZE * BYTES_PER_TOKEN + "[]]")
    monkeypatch.setattr(Path, "open", lambda *_arguments: pytest.fail("it is read"))
    assert f" bytes, where at most {SIZE * BYTES_PER_TOKEN:,} belong" in refusal(checkpoint)
