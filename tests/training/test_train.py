"""Training goes on from a kill as if nothing had happened, and publishes what it learned."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import torch

from app.models.checkpoint import sha256, verify
from app.models.lstm.network import NetworkConfig
from app.models.registry import available, load
from benchmarks.systems import server
from tests.training.corpus import write_corpus
from training.prepare import prepare
from training.train import TrainingConfig, choose_precision, learning_rate

SMALL = ("--vocabulary=300", "--embedding=32", "--encoder=32", "--decoder=32", "--key=32", "--max-source=40")
RUN = ("--epochs=3", "--batch-pairs=16", "--warmup-steps=5", "--validate-every=7", "--max-summary=40", *SMALL)
STEPS = 36


def command(folder: Path, name: str, *options: str) -> list[str]:
    paths = [f"--store={folder / 'store'}", f"--runs={folder / 'runs'}", f"--name={name}"]
    return [sys.executable, "-m", "training", "run", f"--data={folder / 'rows.jsonl'}", *paths, *RUN, *options]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_resumes_to_the_very_same_weights(tmp_path: Path, precision: str) -> None:
    write_corpus(tmp_path / "rows.jsonl", 200)
    options = (f"--precision={precision}", "--save-seconds=0")
    subprocess.run(command(tmp_path, "whole", *options), check=True, capture_output=True)
    killed = 0
    for line in (":7", ":20"):
        # The run tells every step that it saved; the kill comes in the middle of a later one.
        wanted = f"saved step {line[1:]}/"
        with subprocess.Popen(command(tmp_path, "broken", *options), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for said in process.stdout:
                if said.startswith(wanted):
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                    break
    assert killed == 2
    subprocess.run(command(tmp_path, "broken", *options), check=True, capture_output=True)
    whole, broken = (
        torch.load(tmp_path / "runs" / name / "state.pt", weights_only=True) for name in ("whole", "broken")
    )
    assert whole["progress"]["step"] == broken["progress"]["step"] == STEPS
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, broken["model"][name]), name
    strip = [[{**record, "seconds": 0} for record in state["curve"]] for state in (whole, broken)]
    assert strip[0] == strip[1]
    published = [tmp_path / "store" / name / "model.safetensors" for name in ("whole", "broken")]
    assert sha256(published[0]) == sha256(published[1])


def test_three_commands_from_ones_own_rows_to_a_served_checkpoint(tmp_path: Path) -> None:
    """The README's recipe, smaller: train, evaluate, serve (here: load) as `mine`."""
    write_corpus(tmp_path / "rows.jsonl", 600)
    options = ("--epochs=16", "--learning-rate=5e-3", "--num-beams=2", "--validate-every=100")
    done = subprocess.run(command(tmp_path, "mine", *options), check=True, capture_output=True, text=True)
    assert "best validation loss" in done.stdout
    assert available(tmp_path / "store") == ["mine"]
    verify(tmp_path / "store" / "mine")
    model = load(tmp_path / "store", "mine")
    assert model.info.defaults.num_beams == 2
    assert {path.name for path in (tmp_path / "runs" / "mine").iterdir()} >= {"curve.csv", "curve.png", "state.pt"}

    data = write_corpus(tmp_path / "test.jsonl", 60, seed=1)
    written = tmp_path / "written"
    paths = [f"--data={data}", f"--store={tmp_path / 'store'}", f"--output={written}"]
    evaluated = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "--name=mine", "--long-rows=5", *paths],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "first 8 words" in evaluated.stdout
    assert "mine, greedy" in evaluated.stdout
    expected = [json.loads(line)["summary"] for line in data.read_text(encoding="utf-8").splitlines()]
    summaries = [json.loads(line)["summary"] for line in (written / "summaries.jsonl").read_text("utf-8").splitlines()]
    exact = sum(one == other for one, other in zip(expected, summaries, strict=True))
    assert exact >= 30, list(zip(expected, summaries, strict=True))[:10]

    with server({"PRECIS_MODEL": "mine", "PRECIS_MODEL_STORE": str(tmp_path / "store")}) as url:
        answer = httpx2.post(f"{url}/summarize", json={"text": "the river was seen by Anda near Belo"}).json()
    assert answer["model"]["name"] == "mine"
    assert answer["finish_reason"] == "stop"


def last_validation(curve: Path) -> float:
    *_, last = csv.DictReader(curve.read_text(encoding="utf-8").splitlines())
    return float(last["validation_loss"])


def test_the_readmes_make_targets_are_these_commands() -> None:
    def recipe(*arguments: str) -> str:
        return subprocess.run(["make", "-n", *arguments], check=True, capture_output=True, text=True).stdout

    given = ("DATA=rows.jsonl", "NAME=mine")
    assert "-m training run --data rows.jsonl --name mine" in recipe("train", *given)
    assert "-m training evaluate --data rows.jsonl --name mine" in recipe("evaluate", *given)
    assert "-m app" in recipe("serve")


def test_a_folder_prepared_from_other_data_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "rows.jsonl", 50)
    prepare(tmp_path / "run", [str(tmp_path / "rows.jsonl")], vocabulary_size=300)
    write_corpus(tmp_path / "rows.jsonl", 60)
    with pytest.raises(ValueError, match="prepared from other data"):
        prepare(tmp_path / "run", [str(tmp_path / "rows.jsonl")], vocabulary_size=300)


@pytest.mark.parametrize("change", ["--batch-pairs=8", "--embedding=64"])
def test_a_run_does_not_go_on_with_what_would_change_its_batches_or_its_network(tmp_path: Path, change: str) -> None:
    write_corpus(tmp_path / "rows.jsonl", 40)
    subprocess.run(command(tmp_path, "mine", "--epochs=1"), check=True, capture_output=True)
    done = subprocess.run(command(tmp_path, "mine", "--epochs=1", change), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds a run with" in done.stderr.splitlines()[-1]


def test_a_finished_run_without_its_checkpoint_does_not_claim_one(tmp_path: Path) -> None:
    write_corpus(tmp_path / "rows.jsonl", 40)
    subprocess.run(command(tmp_path, "mine", "--epochs=1"), check=True, capture_output=True)
    again = subprocess.run(command(tmp_path, "mine", "--epochs=1"), capture_output=True, text=True, check=False)
    assert again.returncode == 0
    shutil.rmtree(tmp_path / "store" / "mine")
    done = subprocess.run(command(tmp_path, "mine", "--epochs=1"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"remove {tmp_path / 'runs' / 'mine'} to train again")
    subprocess.run(command(tmp_path, "mine", "--epochs=2"), check=True, capture_output=True)
    assert available(tmp_path / "store") == ["mine"], "what goes on publishes again, better or not"


@pytest.mark.parametrize("name", ["toaster", "cuda:x"])
def test_an_unknown_device_ends_with_one_line(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path / "rows.jsonl", 40)
    done = subprocess.run(command(tmp_path, "mine", f"--device={name}"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"training: device '{name}' is not one of auto, cpu, cuda")


@pytest.mark.parametrize("option", ["--num-beams=9", "--num-beams=0", "--max-length=0", "--no-repeat-ngram-size=-1"])
def test_defaults_that_no_service_would_take_are_refused_before_training(tmp_path: Path, option: str) -> None:
    done = subprocess.run(command(tmp_path, "mine", option), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert option.split("=")[0] in done.stderr


def test_an_unknown_precision_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="not one of auto, float32, bfloat16"):
        choose_precision("float8", torch.device("cpu"))


def test_wrong_data_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "only"}\n', encoding="utf-8")
    done = subprocess.run(command(tmp_path, "mine"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("training: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_size_whose_results_would_depend_on_the_batch_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "rows.jsonl", 10)
    done = subprocess.run(command(tmp_path, "mine", "--decoder=40"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "multiple of 32" in done.stderr


def test_the_rate_warms_up_to_its_peak_and_ends_at_zero() -> None:
    config = TrainingConfig(NetworkConfig(300), learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(config, step, 110) for step in range(111)]
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == 0.0


def test_with_a_decay_share_the_rate_stays_at_its_peak_until_then() -> None:
    config = TrainingConfig(NetworkConfig(300), learning_rate=1.0, warmup_steps=10, decay_share=0.2)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[9:81] == [1.0] * 72
    assert rates[90] == pytest.approx(0.5)
    assert rates[100] == 0.0


def test_a_run_that_starts_from_a_checkpoint_keeps_its_vocabulary_and_network_and_begins_better(tmp_path: Path) -> None:
    write_corpus(tmp_path / "rows.jsonl", 300)
    subprocess.run(command(tmp_path, "first", "--epochs=4", "--learning-rate=5e-3"), check=True, capture_output=True)
    first = tmp_path / "store" / "first"
    options = ("--epochs=0.1", "--learning-rate=1e-5", f"--start-from={first}", "--embedding=64")
    subprocess.run(command(tmp_path, "second", *options), check=True, capture_output=True)
    second = tmp_path / "store" / "second"
    assert sha256(second / "tokenizer.json") == sha256(first / "tokenizer.json")
    best = {name: last_validation(tmp_path / "runs" / name / "curve.csv") for name in ("first", "second")}
    assert best["second"] == pytest.approx(best["first"], rel=0.05)
