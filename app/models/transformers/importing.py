"""A Hugging Face folder, as it is downloaded or saved, becomes a checkpoint: data alone, in the forms that are served.

What nobody has vouched for is read in a process of its own (`converting.py`): pickles, and models of SentencePiece.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import metadata_load

from app.errors import CheckpointError
from app.models.checkpoint import (
    CARD,
    CARD_BYTES,
    CONFIG,
    MANIFEST,
    MOST_BYTES,
    PLAIN_NAME,
    Checkpoint,
    few,
    read_json,
    write_manifest,
)
from app.models.transformers import converting
from app.models.transformers.folder import INDEX, OURS, read_folder
from app.models.weights import WEIGHTS

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
TOKENIZER, SENTENCEPIECE_PAIR = "tokenizer.json", "source.spm"
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "prophetnet.tokenizer")
BELONGING = {
    *(CONFIG, CARD, OURS, TOKENIZER, SENTENCEPIECE_PAIR, "target.spm", *SENTENCEPIECE, "LICENSE", "NOTICE"),
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt"),
}
TOKENIZERS = {*SENTENCEPIECE, "vocab.json", "vocab.txt"}  # of other forms
SECONDS = 1800.0  # for a conversion
_POINTER = b"version https://git-lfs.github.com/spec/"
_LANGUAGE = re.compile(r"[a-z]{2,3}")

Rows = list[tuple[str, str]]


def bring(source: Path, draft: Path) -> Rows:
    """Fill an empty folder, its manifest included; names and values to tell of it.

    Raises CheckpointError in one line that says what cannot be served, and OSError when it cannot be written.
    """
    there = {path.name: path for path in source.iterdir() if not path.name.startswith(".") and not path.is_dir()}
    weights = _weights(source, there)
    taken = {name: _file(there[name]) for name in sorted({*weights, *(BELONGING & there.keys())})}
    _look_at_sizes(source, taken, draft)
    pickled = [taken.pop(name) for name in weights if name.endswith(".bin")]
    for name, path in taken.items():
        shutil.copyfile(path, draft / name)
    left = there.keys() - taken.keys() - {*weights, PICKLE_INDEX, MANIFEST}
    rows = [("left out", few(sorted(left)))] if left else []
    if pickled:
        _convert(source / weights[0], "weights", *pickled, draft)
        rows.append(("converted", f"{few(weights)} to safetensors"))
    if TOKENIZER not in taken and SENTENCEPIECE_PAIR not in taken:
        if not TOKENIZERS & taken.keys():
            raise CheckpointError(f"{source}: no tokenizer ({TOKENIZER}, spiece.model, …); download the folder again")
        _convert(source, "tokenizer", draft)
        rows.append(("converted", f"the tokenizer to {TOKENIZER}"))
    _look_at_card(draft, rows)
    for path in draft.iterdir():  # what safetensors writes is nobody else's, and the service may be
        path.chmod((draft / CONFIG).stat().st_mode)
    write_manifest(draft)
    folder = read_folder(Checkpoint(draft))
    return [("architecture", folder.architecture), *rows, *(("note", note) for note in folder.notes)]


def _weights(source: Path, there: Mapping[str, Path]) -> list[str]:
    """The files of the weights: safetensors, with their index, rather than pickles; one file rather than several."""
    for whole, index in ((WEIGHTS, INDEX), (PICKLE, PICKLE_INDEX)):
        if whole in there:
            return [whole]
        if index in there:
            return [*([INDEX] if index == INDEX else []), *_shards(_file(there[index]), there, Path(whole).suffix)]
    raise CheckpointError(
        f"{source}: neither {WEIGHTS} nor {PICKLE}; save the checkpoint with PyTorch's save_pretrained"
    )


def _shards(index: Path, there: Mapping[str, Path], suffix: str) -> list[str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index}: `weight_map` is not an object of names and files; download it again")
    names = sorted({str(name) for name in places.values()})
    if missing := [name for name in names if name not in there or not PLAIN_NAME.fullmatch(name)]:
        raise CheckpointError(f"{index}: {few(missing)} is not there; download the folder again")
    if other := [name for name in names if not name.endswith(suffix)]:
        raise CheckpointError(f"{index}: {few(other)} is no {suffix} file; download the folder again")
    return names


def _file(path: Path) -> Path:
    """The file itself: a folder of the hub's cache holds links to it, and others may only link to what they hold."""
    real = Path(os.path.realpath(path))
    homes = [Path(os.path.realpath(path.parent))]
    if homes[0].parent.name == "snapshots":
        homes.append(homes[0].parent.parent / "blobs")
    if not any(real.is_relative_to(home) for home in homes):
        raise CheckpointError(f"{path}: a link out of the folder, to {real}; put the file itself there")
    if not real.is_file():
        raise CheckpointError(f"{path}: no file; download the folder again")
    with real.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise CheckpointError(f"{path}: a pointer of Git LFS; say `git lfs pull` in {path.parent}")
    return real


def _look_at_sizes(source: Path, files: Mapping[str, Path], draft: Path) -> None:
    size = sum(path.stat().st_size for path in files.values())
    if size > MOST_BYTES:
        raise CheckpointError(f"{source}: {size:,} bytes, where at most {MOST_BYTES:,} are served; use a smaller one")
    if size > (free := shutil.disk_usage(draft).free):
        raise CheckpointError(f"{draft.parent.parent}: {free:,} bytes are free, and {size:,} are needed; make room")


def _convert(place: Path, what: str, *paths: Path) -> None:
    """In a process that has no secrets, no network and only so much memory and time. place: to tell what went wrong."""
    command = [sys.executable, "-I", "-W", "ignore", converting.__file__, what, *map(str, paths)]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": os.devnull}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"{place}: not converted within {SECONDS:.0f} s; save it as safetensors") from error
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1][:300] if lines and done.returncode == converting.REFUSED else f"status {done.returncode}"
    raise CheckpointError(f"{place}: {what} not converted: {reason}")


def _look_at_card(draft: Path, rows: Rows) -> None:
    """A card that cannot be shown is left out; the language that one tells is believed, where nobody says another."""
    card = draft / CARD
    if not card.exists():
        return
    try:
        card.read_bytes().decode()
        shown = card.stat().st_size <= CARD_BYTES
    except UnicodeDecodeError:
        shown = False
    if not shown:
        card.unlink()
        rows.append(("left out", f"{CARD}, for it is not UTF-8 of up to {CARD_BYTES:,} bytes"))
    elif not (draft / OURS).exists() and (language := _language(card)):
        (draft / OURS).write_text(json.dumps({"language": language}) + "\n", encoding="utf-8")


def _language(card: Path) -> str | None:
    try:
        said = (metadata_load(card) or {}).get("language")
    except Exception:  # whatever the library makes of what people write there
        return None
    only = said[0] if isinstance(said, list) and len(said) == 1 else said
    return only if isinstance(only, str) and _LANGUAGE.fullmatch(only) else None
