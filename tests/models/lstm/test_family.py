"""A stored checkpoint loads whole or says in one line why not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import CheckpointError, ConfigurationError
from app.models import kernels
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.devices import PRECISIONS
from app.models.lstm.backends import FixedBackend, TorchBackend
from app.models.lstm.family import load
from app.models.lstm.graphs import Eager, Runner
from app.models.lstm.network import Memory, State
from tests.models.lstm.checkpoints import LIMITS, SMALL, WITH_KERNELS, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "store")


def test_a_loaded_checkpoint_tells_what_it_is(folder: Path) -> None:
    info = load(Checkpoint(folder), device="cpu", precision="auto").info
    assert (info.name, info.family, info.language) == ("small", "lstm", "en")
    assert info.limits == LIMITS
    assert info.defaults.num_beams == 2
    assert info.digest.startswith("sha256:")
    assert info.card == "# small\n"
    assert info.precision in PRECISIONS
    assert info.parameters == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


def test_weights_are_stored_in_half_precision_and_served_in_full(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    assert isinstance(model.backend, TorchBackend)
    torch.testing.assert_close(model.backend.model.state_dict()["embedding.weight"], stored["embedding.weight"].float())


def test_every_file_can_be_read_by_the_user_that_serves_it(folder: Path) -> None:
    assert {path.name: oct(path.stat().st_mode & 0o444) for path in folder.iterdir()} == dict.fromkeys(
        ("config.json", "frequent.json", "manifest.json", "model.safetensors", "README.md", "tokenizer.json"), "0o444"
    )
    assert folder.stat().st_mode & 0o555 == 0o555


def test_text_goes_in_and_comes_out_through_the_seam(folder: Path) -> None:
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    source = model.tokenize("The council approved a bridge.")
    (memory,) = model.encode([source.ids])
    assert memory.source_tokens == len(source.ids)
    state = model.open(3)
    state.join([0], memory)
    output = state.step([0], [model.info.special.start])
    (scores,) = output.log_probabilities
    assert len(memory.candidates) == int((scores > -torch.inf).sum()) < SMALL.vocabulary_size
    assert output.copied is not None
    assert 0 < float(output.copied[0]) < 1
    assert model.detokenize(model.tokenize_summary("a bridge").ids).text == "a bridge"


def test_a_given_summary_has_no_white_space_at_its_edges(folder: Path) -> None:
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    assert model.tokenize_summary(" \n a bridge\u3000") == model.tokenize("a bridge")


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **values}), encoding="utf-8")
    write_manifest(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network": {"vocabulary_size": 320, "colour": 1}}, r"config\.json: network\.colour is not known"),
        (
            {"network": {"vocabulary_size": 258}},
            r"config\.json: network\.vocabulary_size is 258; .* from 259 to 65,536",
        ),
        (
            {"network": {"vocabulary_size": 320, "encoder_layers": 10**9}},
            r"config\.json: network\.encoder_layers is 10",
        ),
        ({"network": {"vocabulary_size": 320, "dropout": 1}}, r"config\.json: network\.dropout is 1"),
        ({"network": {"vocabulary_size": 999}}, "320 tokens, but config.json says 999"),
        ({"network": {"vocabulary_size": 320}}, r"model\.safetensors: .* but config\.json demands"),
        ({"limits": {"max_tokens": 3}}, r"config\.json: limits\.max_tokens is not known"),
        ({"decoding": None}, r"config\.json: decoding is missing"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_file(folder: Path, values: dict[str, object], said: str) -> None:
    change(folder, **values)
    with pytest.raises(CheckpointError, match=said):
        load(Checkpoint(folder), device="cpu", precision="auto")


def test_missing_weights_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["bridge.weight"]
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*bridge\.weight"):
        load(Checkpoint(folder), device="cpu", precision="auto")


@pytest.mark.parametrize("name", ["config.json", "frequent.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_the_manifest_does_not_list_is_never_read(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"manifest\.json: does not list {name}"):
        load(Checkpoint(folder), device="cpu", precision="auto")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[2, 3", "not valid JSON"),
        ("{}", "not a list of token ids under 320"),
        ("[2, 320]", "not a list of token ids under 320"),
        ("[2, true]", "not a list of token ids under 320"),
        ("[2, 5, 5]", "holds an id twice"),
        ("[5]", "not the end token 2"),
    ],
)
def test_a_list_of_frequent_tokens_that_is_none_is_refused(folder: Path, written: str, said: str) -> None:
    (folder / "frequent.json").write_text(written, encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=rf"frequent\.json: .*{said}"):
        load(Checkpoint(folder), device="cpu", precision="auto")


def test_without_a_list_of_frequent_tokens_every_row_can_write_the_whole_vocabulary(folder: Path) -> None:
    (folder / "frequent.json").unlink()
    write_manifest(folder)
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    (memory,) = model.encode([model.tokenize("The council approved a bridge.").ids])
    assert len(memory.candidates) == SMALL.vocabulary_size


@pytest.mark.parametrize(
    ("missing", "bfloat16", "precision"),
    [
        pytest.param(None, False, "int8", marks=WITH_KERNELS),
        ("no compiler", True, "bfloat16"),
        ("no compiler", False, "float32"),
    ],
)
def test_auto_is_the_fastest_precision_that_there_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None, bfloat16: bool, precision: str
) -> None:
    monkeypatch.setattr(kernels, "missing", lambda: missing)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    assert load(Checkpoint(folder), device="cpu", precision="auto").info.precision == precision


def test_int8_without_kernels_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(ConfigurationError, match="PRECIS_PRECISION=int8: the processor has no AVX-512 VNNI"):
        load(Checkpoint(folder), device="cpu", precision="int8")


def test_something_else_than_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        load(Checkpoint(folder), device="cpu", precision="auto")


@pytest.mark.parametrize(("device", "precision"), [("toaster", "auto"), ("cpu", "float8")])
def test_a_wrong_device_or_precision_names_its_setting(folder: Path, device: str, precision: str) -> None:
    with pytest.raises(ConfigurationError, match="PRECIS_"):
        load(Checkpoint(folder), device=device, precision=precision)


@pytest.mark.parametrize("runner", [None, Eager()])
def test_the_positions_that_are_encoded_are_counted_as_the_network_computes_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner | None
) -> None:
    model = load(Checkpoint(folder), device="cpu", precision="float32", runner=runner)
    assert isinstance(model.backend, TorchBackend | FixedBackend)
    encode, lstm = model.backend.model.encode, torch.lstm
    computed: list[float] = []

    def counting(ids: torch.Tensor, lengths: torch.Tensor) -> tuple[Memory, State]:
        computed.append(ids.numel())
        return encode(ids, lengths)

    def half_counting(inputs: torch.Tensor, *others: Any) -> Any:
        computed.append(inputs.shape[0] * inputs.shape[1] / 2)  # a call for each direction
        return lstm(inputs, *others)

    monkeypatch.setattr(model.backend.model, "encode", counting)
    if runner is None:
        monkeypatch.setattr(torch, "lstm", half_counting)
    for lengths in ([5], [3, 170], [16] * 9):
        computed.clear()
        model.encode([[7] * length for length in lengths])
        assert sum(computed) == model.positions(lengths) >= sum(lengths)
