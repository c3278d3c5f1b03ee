"""A program: pickled weights to safetensors, and a tokenizer of other forms to `tokenizer.json`.

    python -I converting.py weights PICKLE… FOLDER
    python -I converting.py tokenizer FOLDER

It reads files that nobody has vouched for, and is run as a process of its own that needs nothing of this project.
`torch.load` makes tensors and nothing else; beyond that, no other process and no connection can be begun.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

REFUSED = 3  # the exit status where the last line on standard error says why
SHARD = "5GB"
ROOM = 8 << 30  # bytes of memory beside the weights: libraries map much
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")


def convert_weights(pickles: list[Path], folder: Path) -> None:
    """Tied tensors are written once; the library knows which are tied."""
    import torch
    from huggingface_hub import save_torch_state_dict

    confine(4 * sum(path.stat().st_size for path in pickles))
    weights: dict[str, Any] = {}
    for path in pickles:
        with path.open("rb") as opened:
            zipped = opened.read(2) == b"PK"
        read = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        if not isinstance(read, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in read.items()
        ):
            raise ValueError("it holds other things than named tensors; save the state_dict alone")
        weights |= read
    save_torch_state_dict(weights, folder, max_shard_size=SHARD)


def convert_tokenizer(folder: Path) -> None:
    """The library's own conversion, with the normalization that it forgets for mBART."""
    from tokenizers import Regex, normalizers
    from transformers import AutoTokenizer

    confine(sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".safetensors"))
    # The library gives Pegasus one id too few where its configuration does not name both masks.
    masks = {} if "mask_token_sent" in _said(folder, "tokenizer_config.json") else {"mask_token_sent": "<mask_1>"}
    pegasus = masks if _said(folder, "config.json").get("model_type") == "pegasus" else {}
    made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **pegasus)
    backend = made.backend_tokenizer
    pieces = folder / "sentencepiece.bpe.model"
    if backend.normalizer is None and pieces.exists() and (charsmap := _charsmap(pieces.read_bytes())):
        spaces = normalizers.Replace(Regex(" {2,}"), " ")
        backend.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), spaces])
    backend.save(str(folder / "tokenizer.json"))


def _said(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    said: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return said


def _charsmap(model: bytes) -> bytes:
    messages = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    charsmap: bytes = messages.ModelProto.FromString(model).normalizer_spec.precompiled_charsmap
    return charsmap


def confine(size: int) -> None:
    """From here on: no other process, no connection, and no more memory than that. The libraries are there by now."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (ROOM + size,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event.startswith(FORBIDDEN):
        raise PermissionError(f"{event} is forbidden here")


def _told(error: Exception) -> str:
    """One line. The library's own is long, and advises to run the code."""
    text = str(error)
    if type(error).__name__ != "UnpicklingError":
        return " ".join(text.split()) or type(error).__name__
    found = text.partition("GLOBAL ")[2].split()
    what = f" ({found[0]})" if found else ""
    return f"a pickle that holds more than tensors{what}, which can run code; get the checkpoint as safetensors"


def main(what: str, *names: str) -> None:
    *pickles, folder = map(Path, names)
    try:
        if what == "weights":
            convert_weights(pickles, folder)
        else:
            convert_tokenizer(folder)
    except Exception as error:  # this is all that is told of whatever a file made the libraries raise
        print(_told(error), file=sys.stderr)
        raise SystemExit(REFUSED) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
