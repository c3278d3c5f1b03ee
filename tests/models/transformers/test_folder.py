"""A Hugging Face folder says in our words what it says in the library's, and its weights are the library's network."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING as NETWORKS
from transformers import (
    BartConfig,
    GenerationConfig,
    LEDConfig,
    MarianConfig,
    MBartConfig,
    PegasusConfig,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
)

from app.errors import CheckpointError
from app.models.base import DecodingOptions, Limits, Special
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.transformers.folder import KNOWN, load_network, read_folder
from app.schemas import Parameters

ROOT = Path(__file__).parents[3]
SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bart": lambda: BartConfig(**SIZES),
    "mbart": lambda: MBartConfig(**SIZES),
    "pegasus": lambda: PegasusConfig(**SIZES),
    "marian": lambda: MarianConfig(**SIZES, pad_token_id=99, decoder_start_token_id=99),
    "t5": lambda: T5Config(vocab_size=100, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    "flan": lambda: T5Config(
        vocab_size=100, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    ),
    "led": lambda: LEDConfig(
        **{k: v for k, v in SIZES.items() if k != "max_position_embeddings"},
        attention_window=8,
        max_encoder_position_embeddings=128,
        max_decoder_position_embeddings=32,
    ),
}


def network(kind: str) -> PreTrainedModel:
    torch.manual_seed(1)
    config = CONFIGS[kind]()
    kind_of_network: Any = NETWORKS[type(config)]
    made: PreTrainedModel = kind_of_network(config)
    return made


def stored(folder: Path, kind: str = "bart", **more: Any) -> Path:
    network(kind).save_pretrained(folder, **more)
    write_manifest(folder)
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("size", ["10GB", "20KB"])
def test_the_network_is_the_one_that_was_saved_in_one_file_or_several(tmp_path: Path, kind: str, size: str) -> None:
    checkpoint = Checkpoint(stored(tmp_path, kind, max_shard_size=size))
    assert ("model.safetensors.index.json" in checkpoint) == (size == "20KB")
    loaded = load_network(checkpoint, read_folder(checkpoint), torch.float64)
    saved = network(kind).state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name].double()) for name, tensor in loaded.state_dict().items())
    assert not loaded.training
    assert not any(each.requires_grad for each in loaded.parameters())
    checkpoint.verify()


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Checkpoint:
    """The checkpoint whose JSON file was changed, and listed as it is now."""
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    change(content)
    path.write_text(json.dumps(content))
    write_manifest(folder)
    return Checkpoint(folder)


def refusal(checkpoint: Checkpoint, name: str) -> str:
    """What is said of a folder that cannot be used: one line, about that file, with what to do."""
    with pytest.raises(CheckpointError) as refused:
        load_network(checkpoint, read_folder(checkpoint), torch.float32)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"{checkpoint.folder / name}: ")
    assert "; " in line
    return line.removeprefix(f"{checkpoint.folder / name}: ")


@pytest.fixture
def bart(tmp_path: Path) -> Path:
    return stored(tmp_path / "bart")


def test_a_published_bart_gets_its_lengths_in_our_counting(bart: Path) -> None:
    asked = {
        "forced_bos_token_id": 0,
        "max_length": 42,
        "min_length": 12,
        "num_beams": 4,
        "length_penalty": 2,
        "no_repeat_ngram_size": 3,
        "early_stopping": True,
    }
    folder = read_folder(changed(bart, "generation_config.json", lambda said: said.update(asked)))
    assert folder.defaults == DecodingOptions(4, 39, 10, 2.0, 3, False, 1.0, True)
    assert folder.special == Special(2, 2, forced=(0,), as_generate=True, forced_end=True)
    assert folder.limits == Limits(64, 62, 8)
    assert folder.limits_around(2) == Limits(62, 62, 8)
    assert (folder.architecture, folder.prefix, folder.language) == ("BartForConditionalGeneration", "", "und")
    assert folder.notes == ()
    assert folder.generation.max_length == 42


def test_new_tokens_count_like_whole_lengths(bart: Path) -> None:
    new = {"max_new_tokens": 41, "max_length": 20, "min_new_tokens": 11, "forced_bos_token_id": 0}
    folder = read_folder(changed(bart, "generation_config.json", lambda said: said.update(new)))
    assert (folder.defaults.max_length, folder.defaults.min_length) == (39, 10)


def test_what_config_says_of_summaries_counts_first_and_its_old_fields_last(bart: Path) -> None:
    task = {"prefix": "summarize: ", "max_length": 30, "num_beams": 2}
    old = {
        "max_length": 20,
        "min_length": 5,
        "decoder_start_token_id": 2,
        "task_specific_params": {"summarization": task},
    }
    checkpoint = changed(bart, "config.json", lambda said: said.update(old))
    folder = read_folder(checkpoint)
    assert (folder.prefix, folder.defaults.max_length, folder.defaults.min_length) == ("summarize: ", 28, 0)
    (bart / "generation_config.json").unlink()
    write_manifest(bart)
    folder = read_folder(Checkpoint(bart))
    assert (folder.defaults.max_length, folder.defaults.min_length, folder.defaults.num_beams) == (28, 4, 2)
    assert folder.generation.num_beams == 2


def test_our_own_file_counts_before_all(bart: Path) -> None:
    ours = {
        "language": "de",
        "description": "Kurz.",
        "limits": {"max_source_tokens": 50, "max_summary_tokens": 40, "max_beams": 2},
        "decoding": {"num_beams": 2, "max_length": 33},
        "prefix": "kurz: ",
    }
    folder = read_folder(changed(bart, "precis.json", lambda said: said.update(ours)))
    assert (folder.language, folder.description, folder.prefix) == ("de", "Kurz.", "kurz: ")
    assert folder.limits == folder.limits_around(2) == Limits(50, 40, 2)
    assert (folder.defaults.num_beams, folder.defaults.max_length, folder.defaults.length_penalty) == (2, 33, 1.0)
    assert not folder.defaults.numbers_from_source


def test_the_page_shows_a_file_of_our_own_that_is_taken(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "huggingface.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json\n(.*?)```", page, flags=re.S)
    ours = json.loads(shown)
    assert ours.keys() == set(KNOWN)
    assert ours["decoding"].keys() == {field.name for field in fields(DecodingOptions)}
    folder = read_folder(changed(stored(tmp_path / "t5", "t5"), "precis.json", lambda said: said.update(ours)))
    assert asdict(folder.defaults) == ours["decoding"]
    assert asdict(folder.limits) == ours["limits"]


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"colour": 1}, "colour is not known; known are language,"),
        ({"language": 1}, "language is 1; it must be a BCP 47 tag"),
        ({"prefix": 1}, "prefix is 1; it must be a text"),
        ({"limits": []}, "limits is an array; it must be an object"),
        ({"limits": {"max_source_tokens": 65}}, "limits.max_source_tokens is 65; it must be from 1 to 64"),
        ({"limits": {"max_summary_tokens": 64}}, "limits.max_summary_tokens is 64; it must be from 1 to 63"),
        ({"limits": {"colour": 1}}, "limits.colour is not known; known are max_source_tokens"),
        ({"decoding": {"num_beams": 9}}, "decoding.num_beams is 9; it must be from 1 to 8"),
        ({"decoding": {"early_stopping": "soon"}}, "decoding.early_stopping is 'soon'; it must be true, false or"),
    ],
)
def test_what_is_wrong_in_our_own_file_is_named(bart: Path, ours: dict[str, Any], said: str) -> None:
    assert refusal(changed(bart, "precis.json", lambda content: content.update(ours)), "precis.json").startswith(said)


def test_relative_positions_reach_as_far_as_the_training_or_our_own_file_says(tmp_path: Path) -> None:
    folder = stored(tmp_path / "t5", "t5")
    assert read_folder(Checkpoint(folder)).limits == Limits(512, 1024)
    assert read_folder(changed(folder, "config.json", lambda said: said.update(n_positions=300))).limits == Limits(
        300, 1024
    )
    told = changed(folder, "tokenizer_config.json", lambda said: said.update(model_max_length=200))
    assert read_folder(told).limits == Limits(200, 1024)
    endless = changed(folder, "tokenizer_config.json", lambda said: said.update(model_max_length=10**30))
    assert read_folder(endless).limits == Limits(300, 1024)
    further = changed(folder, "precis.json", lambda said: said.update(limits={"max_source_tokens": 2000}))
    assert read_folder(further).limits_around(7) == Limits(1993, 1024)


def test_encoder_and_decoder_can_have_positions_of_their_own(tmp_path: Path) -> None:
    assert read_folder(Checkpoint(stored(tmp_path / "led", "led"))).limits == Limits(128, 31)


def test_a_prefix_that_leaves_no_room_is_refused(bart: Path) -> None:
    with pytest.raises(CheckpointError, match="prefix and special tokens take 64 of 64 positions"):
        read_folder(Checkpoint(bart)).limits_around(64)


def test_what_requests_may_not_ask_for_is_lowered_and_told(bart: Path) -> None:
    asked = {"num_beams": 12, "max_length": 5000, "min_length": 4000, "do_sample": True, "length_penalty": 20.0}
    folder = read_folder(changed(bart, "generation_config.json", lambda said: said.update(asked)))
    assert folder.defaults == DecodingOptions(8, 63, 63, 10.0, 0, False)
    assert folder.notes == (
        "do_sample is true, which is not offered: summaries are searched for without it",
        "max_length is 4,998, where requests may ask for 1 to 63: it is 63",
        "num_beams is 12, where requests may ask for 1 to 8: it is 8",
        "min_length is 3,999, where requests may ask for 0 to 63: it is 63",
        "length_penalty is 20.0, where requests may ask for -10.0 to 10.0: it is 10.0",
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_beams": "4"}, "num_beams is '4'; it must be a whole number"),
        ({"num_beams": True}, "num_beams is true; it must be a whole number"),
        ({"max_length": 4.5}, "max_length is 4.5; it must be a whole number"),
        ({"early_stopping": "soon"}, "the library cannot take it (`early_stopping` must be a boolean"),
        ({"decoder_start_token_id": 100}, "decoder_start_token_id is 100; it must be the id of a token, under 100"),
        ({"decoder_start_token_id": [2]}, "decoder_start_token_id is an array; it must be the id of a token"),
        ({"forced_bos_token_id": -1}, "forced_bos_token_id is -1; it must be the id of a token"),
        ({"bad_words_ids": [["a"]]}, "bad_words_ids is 'a'; it must be the id of a token"),
        ({"watermarking_config": {"colour": 1}}, "the library cannot take it ("),
    ],
)
def test_what_is_wrong_in_the_generation_configuration_is_named(bart: Path, asked: dict[str, Any], said: str) -> None:
    checkpoint = changed(bart, "generation_config.json", lambda content: content.update(asked))
    assert refusal(checkpoint, "generation_config.json").startswith(said)


def test_tokens_that_are_never_written_are_known(bart: Path) -> None:
    asked = {
        "eos_token_id": [2, 9],
        "suppress_tokens": [4, 5],
        "begin_suppress_tokens": [6],
        "bad_words_ids": [[7], [8, 9], [2]],
        "forced_eos_token_id": None,
    }
    folder = read_folder(changed(bart, "generation_config.json", lambda said: said.update(asked)))
    assert folder.special == Special(2, 2, (4, 5), (6,), (), (9,), ((7,), (8, 9)), as_generate=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; it must be a text-to-text one that transformers 5."),
        ({"model_type": ["bart"]}, "model_type is an array; it must be"),
        ({"model_type": "voxtral", "is_encoder_decoder": False}, "model_type is 'voxtral'; it must be"),
        ({"model_type": "mine", "auto_map": {"AutoModel": "code.M"}}, "model_type 'mine' comes with code of its own"),
        (
            {"architectures": ["BartForSequenceClassification"]},
            "architectures is 'BartForSequenceClassification'; it must",
        ),
        ({"architectures": "Bart"}, "architectures is 'Bart'; it must be BartForConditionalGeneration"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized weights are not taken; "),
        ({"encoder_layers": 10**9}, "encoder_layers is 1000000000; it must be at most 256"),
        ({"d_model": "wide"}, "the library cannot take it ("),
        ({"d_model": 0}, "the library cannot take it ("),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(bart: Path, change: dict[str, Any], said: str) -> None:
    assert refusal(changed(bart, "config.json", lambda content: content.update(change)), "config.json").startswith(said)


def test_code_and_kernels_that_a_configuration_names_are_not_looked_for(bart: Path) -> None:
    (bart / "code.py").write_text("raise SystemExit")
    named = {"auto_map": {"AutoConfig": "code.C"}, "attn_implementation": "kernels-community/flash-attn"}
    checkpoint = changed(bart, "config.json", lambda said: said.update(named))
    folder = read_folder(checkpoint)
    loaded = load_network(checkpoint, folder, torch.float32)
    assert folder.notes[-1] == "auto_map names code, which is not run: the library's own is"
    assert type(loaded).__module__.startswith("transformers.models.bart")
    assert not hasattr(loaded.config, "auto_map")


def test_the_network_may_be_named_without_its_last_layer(tmp_path: Path) -> None:
    network("bart").model.save_pretrained(tmp_path)
    write_manifest(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.config["architectures"] == ["BartModel"]
    loaded = load_network(checkpoint, read_folder(checkpoint), torch.float32)
    saved = network("bart").state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())


def reweighed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Checkpoint:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    return Checkpoint(folder)


BIAS = "model.encoder.layers.1.fc1.bias"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop(BIAS), f"lacks {BIAS}, which config.json demands; "),
        (lambda weights: weights.update(more=torch.ones(1)), "holds more, which config.json does not know; "),
        (lambda weights: weights.update({BIAS: torch.ones(31)}), f"{BIAS} is (31,), but config.json demands (32,); "),
        (lambda weights: weights[BIAS].fill_(torch.nan), f"{BIAS} holds NaN, infinity or more than 65,504; "),
        (lambda weights: weights[BIAS].fill_(1e6), f"{BIAS} holds NaN, infinity or more than 65,504; publish"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    bart: Path, change: Callable[[dict[str, torch.Tensor]], object], said: str
) -> None:
    assert refusal(reweighed(bart, change), "model.safetensors").startswith(said)


def test_no_memory_is_taken_for_a_network_that_the_weights_do_not_fill(bart: Path) -> None:
    checkpoint = changed(bart, "config.json", lambda said: said.update(vocab_size=10**11))
    assert "numbers, where config.json demands 1,6" in refusal(checkpoint, "model.safetensors")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = stored(tmp_path, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    write_manifest(folder)
    assert f"does not list {shard.name}" in refusal(Checkpoint(folder), "manifest.json")


@pytest.mark.parametrize("said", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_an_index_that_is_none_is_named(tmp_path: Path, said: object) -> None:
    folder = stored(tmp_path, max_shard_size="20KB")
    (folder / "model.safetensors.index.json").write_text(json.dumps(said))
    write_manifest(folder)
    assert "`weight_map` is not an object" in refusal(Checkpoint(folder), "model.safetensors.index.json")


def test_an_index_that_does_not_fit_its_shards_is_named(tmp_path: Path) -> None:
    folder = stored(tmp_path, max_shard_size="20KB")
    checkpoint = changed(folder, "model.safetensors.index.json", lambda said: said["weight_map"].pop(BIAS))
    with pytest.raises(CheckpointError, match=rf"{BIAS} is in one of model\.safetensors\.index\.json and the file"):
        load_network(checkpoint, read_folder(checkpoint), torch.float32)


def test_a_flipped_bit_is_found_before_the_library_sees_it(tmp_path: Path) -> None:
    folder = stored(tmp_path, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert refusal(Checkpoint(folder), shard.name).startswith("sha256 is ")


def test_a_pickle_is_not_opened(bart: Path) -> None:
    torch.save(network("bart").state_dict(), bart / "model.safetensors")
    write_manifest(bart)
    assert refusal(Checkpoint(bart), "model.safetensors").startswith("a pickle, which can run code; ")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)
SAID = {
    "config.json": [*BartConfig().to_dict(), "task_specific_params", "prefix", "n_positions", "encoder", "decoder"],
    "generation_config.json": [*GenerationConfig().to_dict(), "forced_decoder_ids"],  # type: ignore[no-untyped-call]
    "tokenizer_config.json": ["model_max_length"],
    "precis.json": ["language", "description", "limits", "decoding", "prefix"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("whole") / "bart")


@given(st.data())
def test_whatever_a_file_says_is_taken_or_refused_in_one_line(whole: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SAID)))
    keys = st.sampled_from(SAID[name]) | st.text(max_size=5)
    said = data.draw(st.dictionaries(keys, ANYTHING, max_size=3))
    path = whole / name
    before = path.read_bytes() if path.exists() else None
    try:
        folder, line = read_folder(changed(whole, name, lambda content: content.update(said))), ""
    except CheckpointError as error:
        folder, line = None, str(error)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    if folder is None:
        assert line.startswith(f"{whole}/")
        assert "\n" not in line
    else:
        Parameters.model_validate(asdict(folder.defaults))
        assert folder.defaults.max_length <= folder.limits.max_summary_tokens
