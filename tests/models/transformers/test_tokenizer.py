"""Ids are those of the library, offsets are those of the caller's own string, and summaries grow at their end."""

import functools
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from app.models.checkpoint import Checkpoint, write_manifest
from app.models.transformers.tokenizer import SourceTokenizer
from app.models.transformers.tokenizer_file import read_tokenizer
from tests.models.transformers.folders import SENTENCES, WRITE_TOKENIZER, write_mbart_tokenizer
from tests.texts import texts

ARCHITECTURES = st.sampled_from(sorted(WRITE_TOKENIZER))
LITERALS = ["</s>", "<s>", "<pad>", "<mask>", "<mask_1>", "<unk_2>", "<extra_id_0>", "en_XX", ">>fra<<"]
SPECIAL_WORDS = [*LITERALS, "<unk>"]


@functools.cache
def folder_of(architecture: str) -> tuple[Path, int]:
    folder = Path(tempfile.mkdtemp())
    size = WRITE_TOKENIZER[architecture](folder)
    (folder / "config.json").write_text(f'{{"model_type": "{architecture}", "vocab_size": {size}}}')
    write_manifest(folder)
    return folder, size


@functools.cache
def ours(architecture: str, prefix: str = "") -> SourceTokenizer:
    folder, size = folder_of(architecture)
    return read_tokenizer(Checkpoint(folder), size, prefix)


@functools.cache
def theirs(architecture: str) -> Any:
    """The library's. Its own class for mBART forgets how texts are normalized, so that is read as the file says."""
    folder, _ = folder_of(architecture)
    kind: Any = PreTrainedTokenizerFast if architecture == "mbart" else AutoTokenizer
    return kind.from_pretrained(folder)


def plain(text: str) -> bool:
    return not any(word in text for word in SPECIAL_WORDS)


@pytest.fixture(autouse=True, scope="module")
def _moses() -> Any:
    with pytest.warns(UserWarning, match="sacremoses"):
        theirs("marian")
    return


@given(texts().filter(plain), ARCHITECTURES)
@example("ﷺ e\u0301 １２ ﬁ ｶﾞ \x00\x85\u2028", "t5")
@example("x" * 3000, "marian")
def test_ids_are_those_of_the_library(text: str, architecture: str) -> None:
    tokenizer = ours(architecture)
    before, after = tokenizer.around
    assert [*before, *tokenizer.encode(text).ids, *after] == theirs(architecture)(text)["input_ids"]
    assert (
        list(tokenizer.encode_summary(text).ids)
        == theirs(architecture)(text_target=text)["input_ids"][
            len(before) if architecture == "bart" else 0 : -len(after)
        ]
    )
