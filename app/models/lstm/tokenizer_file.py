"""What a stored tokenizer may be: byte-level BPE exactly as `Tokenizer.train` makes it, with any vocabulary.

Whatever else the format of the `tokenizers` library knows is refused before the library sees it: a normalizer that
makes a book of every word, a pattern that is tried for ever, an added token that ends every text.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer as Bpe

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint, few, parse_json
from app.models.lstm.tokenizer import SPECIAL_TOKENS, Tokenizer, untrained
from app.models.tokens import BYTE_OF

FILE = "tokenizer.json"
LEAST_TOKENS = len(SPECIAL_TOKENS) + len(BYTE_OF)
BYTES_PER_TOKEN = 128  # of the file, with the merge that makes it: about 30 are usual
_LEARNED = ("vocab", "merges")


def read_tokenizer(checkpoint: Checkpoint, vocabulary_size: int) -> Tokenizer:
    """The tokenizer of a checkpoint whose network has so many tokens.

    Raises CheckpointError when it is another kind of tokenizer, has another vocabulary, or cannot cut every text.
    """
    path = checkpoint.folder / FILE
    content = checkpoint.read(FILE, BYTES_PER_TOKEN * vocabulary_size)
    state = parse_json(content, path)
    try:
        _check(state, vocabulary_size)
        return Tokenizer(Bpe.from_buffer(content))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: not a tokenizer of this family: {error}; train it with `make train`") from error


def _parts(state: Mapping[str, Any]) -> dict[str, Any]:
    """All but what is learned, by name."""
    model = {f"model.{name}": value for name, value in state["model"].items() if name not in _LEARNED}
    return {name: value for name, value in state.items() if name != "model"} | model


_KINDS = [_parts(json.loads(untrained(chinese).to_str())) for chinese in (False, True)]


def _check(state: Any, vocabulary_size: int) -> None:
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise ValueError("it has no `model`")
    parts, nothing = _parts(state), object()
    names = sorted(parts.keys() | _KINDS[0].keys())
    known = {name: [kind.get(name, nothing) for kind in _KINDS] for name in names}
    if wrong := [name for name in names if parts.get(name, nothing) not in known[name]]:
        raise ValueError(f"{few(wrong)} is not as in byte-level BPE")
    _check_vocabulary(state["model"].get("vocab"), vocabulary_size)
    _check_merges(state["model"].get("merges"), state["model"]["vocab"].keys() - SPECIAL_TOKENS)


def _check_vocabulary(vocabulary: Any, size: int) -> None:
    if not isinstance(vocabulary, dict) or not all(type(index) is int for index in vocabulary.values()):
        raise ValueError("`vocab` is not an object of tokens and their ids")
    if len(vocabulary) != size:
        raise ValueError(f"{len(vocabulary):,} tokens, but config.json says {size:,}")
    if {*vocabulary.values()} != {*range(size)}:
        raise ValueError(f"the ids are not those from 0 to {size - 1:,}, each once")
    if special := [token for index, token in enumerate(SPECIAL_TOKENS) if vocabulary.get(token) != index]:
        raise ValueError(f"{', '.join(special)} is not among the first ids {SPECIAL_TOKENS} in this order")
    tokens = vocabulary.keys() - SPECIAL_TOKENS
    if "" in tokens or not {*"".join(tokens)} <= BYTE_OF.keys():
        raise ValueError("a token is empty, or not of the alphabet of bytes")
    if missing := BYTE_OF.keys() - tokens:
        raise ValueError(f"{len(missing)} of 256 bytes have no token")


def _check_merges(merges: Any, tokens: set[str]) -> None:
    """A merge that wrote a special token would end a text that only has its letters."""
    if not isinstance(merges, list):
        raise ValueError("`merges` is not an array")
    for merge in merges:
        if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(part, str) for part in merge):
            raise ValueError("a merge is not a pair of tokens")
        if not all(token in tokens for token in (*merge, "".join(merge))):
            raise ValueError("a merge is of something else than tokens")
