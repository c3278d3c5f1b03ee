"""`python -m training`: train on any JSON lines of text and summary, and evaluate what came out."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from app.errors import PrecisError
from app.models.base import DecodingOptions, Limits
from app.models.checkpoint import read_json
from app.models.lstm.network import NetworkConfig
from app.models.lstm.tokenizer import Tokenizer
from app.models.registry import load
from training.data import pack, read
from training.evaluation import report
from training.evaluation.run import Plan, evaluate
from training.export import Card, describe, frequent_tokens, refit
from training.lstm import Aims, LSTMLearner
from training.picture import attend, draw
from training.prepare import Prepared, prepare, read_all
from training.relevance import make_ready, tell, train, with_relevance
from training.train import Trainer, TrainingConfig
from training.tune import Log, grid_of, tune

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

MAX_BEAMS = 8
TOKENS_A_PAIR = 128  # longer sources fill a batch with fewer pairs, which bounds its memory
Data = Annotated[
    list[str],
    typer.Option(help="JSON lines with `text` and `summary`, plain or .zst: PATH, PATH:ROWS or PATH:FROM-TO."),
]
Store = Annotated[Path, typer.Option(help="Model store: the folder that holds checkpoints.")]
Name = Annotated[str, typer.Option(help="Name of the checkpoint in the store, and of the run's folder.")]
Tried = Annotated[str, typer.Option(help="Values to try, such as 1,2,4; none leaves the checkpoint's own.")]


def _whole_vectors(size: int) -> int:
    """With other sizes a row's last bit may depend on how many rows share its batch (measured on AVX-512)."""
    if size % 32:
        raise typer.BadParameter(f"{size} is not a multiple of 32, which a result needs to be the same in any batch")
    return size


Size = Annotated[int, typer.Option(min=32, callback=_whole_vectors, help="A multiple of 32, as are the others.")]


Valid = Annotated[list[str], typer.Option(help="Validation rows; without it 5 % of the data are held out.")]
Runs = Annotated[Path, typer.Option(help="Where runs keep what they need to be resumed.")]
VocabularySize = Annotated[int, typer.Option(min=300, max=65_000)]
MaxSource = Annotated[int, typer.Option(min=1, help="Source tokens that the model reads.")]
MaxSummary = Annotated[int, typer.Option(min=1, help="Tokens of the longest summary.")]
Decay = Annotated[float, typer.Option(help="Last part of the steps, in which the learning rate falls to 0.")]
SaveSeconds = Annotated[float, typer.Option(help="Time between saves of the run's state.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16: type of matrix products.")]
NumBeams = Annotated[int, typer.Option(min=1, max=MAX_BEAMS, help="Default of the checkpoint, as are the next three.")]
MaxLength = Annotated[int, typer.Option(min=1)]
LengthPenalty = Annotated[float, typer.Option(min=-10.0, max=10.0)]
NoRepeatNgramSize = Annotated[int, typer.Option(min=0)]


@app.command()
def run(
    data: Data,
    name: Name,
    valid: Valid = [],  # noqa: B006
    store: Store = Path("model_store"),
    runs: Runs = Path("runs"),
    vocabulary: VocabularySize = 16_000,
    embedding: Size = 256,
    encoder: Annotated[
        int, typer.Option(min=32, callback=_whole_vectors, help="Size of each direction of the encoder.")
    ] = 256,
    encoder_layers: Annotated[int, typer.Option(min=1)] = 1,
    decoder: Size = 512,
    key: Size = 256,
    dropout: float = 0.1,
    max_source: MaxSource = 400,
    max_summary: MaxSummary = 64,
    epochs: float = 1.0,
    batch_pairs: int = 64,
    learning_rate: float = 1.5e-3,
    warmup_steps: int = 300,
    decay: Decay = 1.0,
    attention_weight: Annotated[
        float, typer.Option(help="Draw attention to the source's own words: weight of that loss.")
    ] = 0.0,
    risk: Annotated[
        float, typer.Option(help="Share of the loss that is the measure (ROUGE) itself; to fine-tune with.")
    ] = 0.0,
    samples: Annotated[int, typer.Option(min=2, help="Summaries to draw for each source, with --risk.")] = 8,
    risk_beams: Annotated[
        int, typer.Option(min=0, max=16, help="With --risk: rank what a beam so wide finds, instead of samples.")
    ] = 0,
    longer: Annotated[float, typer.Option(help="Share of the sources that get unrelated text appended.")] = 0.0,
    start_from: Annotated[
        Path | None, typer.Option(help="A checkpoint to go on from: its weights, vocabulary and sizes.")
    ] = None,
    validate_every: int = 1000,
    save_seconds: SaveSeconds = 120.0,
    seed: int = 1,
    device: str = "auto",
    precision: Precision = "auto",
    language: Annotated[str, typer.Option(help="Of the texts (BCP 47); Chinese is cut into characters.")] = "en",
    description: str = "",
    num_beams: NumBeams = 4,
    max_length: MaxLength = 32,
    length_penalty: LengthPenalty = 1.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 3,
) -> None:
    """Prepare, train (or go on) and publish: the best checkpoint by validation loss is always in the store."""
    folder = runs / name
    counts = prepare(
        folder,
        data,
        valid,
        vocabulary_size=vocabulary,
        max_source=max_source,
        max_summary=max_summary,
        seed=seed,
        language=language,
        tokenizer=start_from and start_from / "tokenizer.json",
    )
    print(f"{counts.training} pairs to train on, {counts.validation} to validate, {counts.vocabulary} tokens")
    network = NetworkConfig(counts.vocabulary, embedding, encoder, encoder_layers, decoder, key, dropout)
    if start_from is not None:
        network = replace(NetworkConfig(**read_json(start_from / "config.json")["network"]), dropout=dropout)
    config = TrainingConfig(
        network,
        epochs=epochs,
        batch_pairs=batch_pairs,
        batch_tokens=TOKENS_A_PAIR * batch_pairs,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        decay_share=decay,
        longer_share=longer,
        max_source=max_source,
        validate_every=validate_every,
        save_seconds=save_seconds,
        seed=seed,
        device=device,
        precision=precision,
    )
    limits = Limits(max_source, max_summary, MAX_BEAMS)
    options = DecodingOptions(num_beams, min(max_length, max_summary), 0, length_penalty, no_repeat_ngram_size)
    card = _card(name, description or _trained_on(data), language, limits, options, counts, config)
    weights = start_from and start_from / "model.safetensors"
    aims = Aims(attention_weight, risk, samples, risk_beams)
    _fit(Trainer(folder, config, LSTMLearner(folder, network, config, aims, card, weights), store / name))


@app.command(name="transformers")
def transformers_command(
    data: Data,
    name: Name,
    valid: Valid = [],  # noqa: B006
    store: Store = Path("model_store"),
    runs: Runs = Path("runs"),
    vocabulary: VocabularySize = 16_000,
    model_size: Size = 256,
    layers: Annotated[int, typer.Option(min=1, help="Of the encoder, and of the decoder.")] = 3,
    heads: Annotated[int, typer.Option(min=1)] = 4,
    feed_forward: Size = 1024,
    dropout: float = 0.1,
    max_source: MaxSource = 400,
    max_summary: MaxSummary = 64,
    epochs: float = 1.0,
    batch_pairs: int = 64,
    learning_rate: float = 1e-3,
    warmup_steps: int = 1000,
    decay: Decay = 1.0,
    validate_every: int = 1000,
    save_seconds: SaveSeconds = 120.0,
    threads: Annotated[int, typer.Option(min=0, help="Of the kernels; 0 is torch's own choice.")] = 0,
    seed: int = 1,
    device: str = "auto",
    precision: Precision = "auto",
    language: Annotated[str, typer.Option(help="Of the texts (BCP 47); one that writes its words apart.")] = "en",
    description: str = "",
    num_beams: NumBeams = 4,
    max_length: MaxLength = 32,
    length_penalty: LengthPenalty = 1.0,
    no_repeat_ngram_size: NoRepeatNgramSize = 3,
) -> None:
    """The same for a small BART from nothing, published as a Hugging Face folder (extra `transformers`)."""
    try:
        from training.transformers import AROUND, BartLearner, LibraryTokenizer, Sizes
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; install precis[transformers]") from error
    if threads:
        torch.set_num_threads(threads)
    folder = runs / name
    counts = prepare(
        folder,
        data,
        valid,
        vocabulary_size=vocabulary,
        max_source=max_source,
        max_summary=max_summary,
        seed=seed,
        language=language,
        kind=LibraryTokenizer,
    )
    print(f"{counts.training} pairs to train on, {counts.validation} to validate, {counts.vocabulary} tokens")
    positions = max(max_source, max_summary) + AROUND
    sizes = Sizes(counts.vocabulary, positions, model_size, layers, heads, feed_forward, dropout)
    config = TrainingConfig(
        sizes,
        epochs=epochs,
        batch_pairs=batch_pairs,
        batch_tokens=TOKENS_A_PAIR * batch_pairs,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        clip_norm=1.0,
        decay_share=decay,
        validate_every=validate_every,
        save_seconds=save_seconds,
        seed=seed,
        device=device,
        precision=precision,
    )
    limits = Limits(max_source, max_summary, MAX_BEAMS)
    options = DecodingOptions(num_beams, min(max_length, max_summary), 0, length_penalty, no_repeat_ngram_size)
    card = _card(name, description or _trained_on(data), language, limits, options, counts, config)
    _fit(Trainer(folder, config, BartLearner(folder, sizes, config, card), store / name))


def _trained_on(data: list[str]) -> str:
    return f"Trained on {', '.join(Path(spec).name for spec in data)}."


def _card(
    name: str,
    description: str,
    language: str,
    limits: Limits,
    options: DecodingOptions,
    counts: Prepared,
    config: TrainingConfig,
) -> Card:
    readme = f"# {name}\n\n{description}\n\n{counts.training} pairs, {config.epochs} epochs, seed {config.seed}.\n"
    return Card(language, description, limits, options, readme)


def _fit(trainer: Trainer) -> None:
    best = trainer.fit()
    print(f"best validation loss {best:.4f}; the checkpoint is {trainer.target}, its curve {trainer.run / 'curve.png'}")


@app.command(name="relevance")
def relevance_command(
    data: Data,
    valid: Data,
    name: Name,
    source: Annotated[Path, typer.Option("--from", help="The checkpoint's folder; all else in it stays as it is.")],
    store: Store = Path("model_store"),
    size: Annotated[int, typer.Option(min=32, callback=_whole_vectors)] = 128,
    steps: int = 3000,
    learning_rate: float = 3e-3,
    readiness: Annotated[float, typer.Option(help="To find an end: added to its logits afterwards.")] = 0.0,
    seed: int = 1,
) -> None:
    """Teach a checkpoint where the text that it is to summarize ends, where unrelated ones follow."""
    model, longest = with_relevance(source, size, seed)
    tokenizer = Tokenizer.load(source / "tokenizer.json")
    packed, held_out = (pack(read_all(rows), tokenizer, longest, longest) for rows in (data, valid))
    for step, loss in train(model, packed, longest=longest, steps=steps, learning_rate=learning_rate, seed=seed):
        print(f"step {step}/{steps}: {loss:.3f} nats a text", flush=True)
    make_ready(model, readiness)
    refit(model, source, store / name)
    told = tell(model, held_out, longest=longest, texts=2000, seed=seed)
    print(f"held out: {told.loss:.3f} nats a text; {told.kept:.1%} kept, {told.passed_over:.1%} passed over")


@app.command(name="evaluate")
def evaluate_command(
    data: Data,
    name: Name = "news-en",
    store: Store = Path("model_store"),
    num_beams: Annotated[int | None, typer.Option(min=1, help="Instead of the checkpoint's own default.")] = None,
    precision: str = "auto",
    device: str = "auto",
    max_rows: Annotated[int, typer.Option(help="Live decoder rows.")] = 64,
    attention_rows: Annotated[int, typer.Option(min=0, help="Rows whose attention is measured.")] = 1000,
    leave_out_rows: Annotated[int, typer.Option(min=0, help="Of these, rows from which words are left out.")] = 500,
    long_rows: Annotated[int, typer.Option(min=0, help="Rows that get unrelated text appended.")] = 500,
    samples: Annotated[int, typer.Option("--samples", "--reading", min=0, help="Rows to judge by reading.")] = 20,
    seed: int = 1,
    output: Annotated[
        Path | None, typer.Option(help="Folder for scores.json, scores.md, summaries.jsonl and reading.txt.")
    ] = None,
) -> None:
    """ROUGE of a checkpoint, greedy and with its default options, beside baselines; its truth, attention, long input.

    The rows to read are printed, or with --output written to reading.txt.
    """
    plan = Plan(num_beams, attention_rows, leave_out_rows, long_rows, max_rows, seed)
    model = load(store, name, device=device, precision=precision)
    results = []
    for spec in data:
        results.append(evaluate(spec, model, plan))
        report.show(results[-1])
    if output is None:
        print(report.reading(results, samples))
    else:
        report.write(output, results, samples)
        print(f"written to {output}; summaries.jsonl and reading.txt hold text of the data")


@app.command(name="tune")
def tune_command(
    data: Data,
    name: Name = "news-en",
    store: Store = Path("model_store"),
    num_beams: Tried = "1,2,4,6,8",
    length_penalty: Tried = "0.6,0.8,1.0,1.2",
    no_repeat_ngram_size: Tried = "0,2,3",
    min_length: Tried = "0,6",
    max_length: Tried = "",
    every: Annotated[bool, typer.Option("--every", help="Every combination, not one option at a time.")] = False,
    precision: str = "auto",
    device: str = "auto",
    max_rows: Annotated[int, typer.Option(help="Live decoder rows.")] = 64,
    seed: int = 1,
) -> None:
    """Find the decoding options with the best mean of ROUGE-1, -2 and -L, starting from the checkpoint's own."""
    grid = grid_of(
        num_beams=num_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        min_length=min_length,
        max_length=max_length,
    )
    model = load(store, name, device=device, precision=precision)
    tune(model, list(read_all(data)), grid, every=every, max_rows=max_rows, log=Log(seed))


@app.command(name="publish")
def publish_command(
    name: Name,
    source: Annotated[Path, typer.Option("--from", help="The checkpoint's folder, as training left it.")],
    store: Store = Path("model_store"),
    card: Annotated[Path | None, typer.Option(help="Its model card, in Markdown.")] = None,
    description: str | None = None,
    frequent_in: Annotated[
        list[str] | None,
        typer.Option(help="Data sets, as --data of training: every row may write what their summaries often hold."),
    ] = None,
    sharpen: Annotated[float, typer.Option(help="What the attention's scores are multiplied by.")] = 1.0,
    num_beams: Annotated[int | None, typer.Option(min=1, max=MAX_BEAMS, help="Default, as are the next.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1)] = None,
    min_length: Annotated[int | None, typer.Option(min=0)] = None,
    length_penalty: Annotated[float | None, typer.Option(min=-10.0, max=10.0)] = None,
    no_repeat_ngram_size: Annotated[int | None, typer.Option(min=0)] = None,
    numbers_from_source: bool | None = None,
) -> None:
    """Put a checkpoint into the store with a card and defaults of your choice, once it is evaluated."""
    describe(
        source,
        store / name,
        None if card is None else card.read_text(encoding="utf-8"),
        description,
        _frequent_tokens(frequent_in, source) if frequent_in else None,
        sharpen,
        num_beams=num_beams,
        max_length=max_length,
        min_length=min_length,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        numbers_from_source=numbers_from_source,
    )
    info = load(store, name).info
    print(f"{store / name}: {info.digest}, {info.defaults}")


def _frequent_tokens(data: list[str], source: Path) -> list[int]:
    tokenizer = Tokenizer.load(source / "tokenizer.json")
    ids = [tokenizer.ids([pair.summary for pair in read(spec)]) for spec in data]
    summaries = [np.array(list(chain.from_iterable(rows)), np.uint16) for rows in ids]
    return frequent_tokens(summaries, tokenizer.vocabulary_size)


@app.command(name="picture")
def picture_command(
    text: Annotated[typer.FileText, typer.Option(help="A UTF-8 file; - is standard input.")],
    output: Annotated[Path, typer.Option(help="The picture, as PNG.")],
    name: Name = "news-en",
    store: Store = Path("model_store"),
) -> None:
    """Summarize a text and draw the attention matrix."""
    draw(attend(store, name, text.read()), output)
    print(output)


def main() -> None:
    try:
        app()
    except (PrecisError, ValueError, OSError) as error:
        raise SystemExit(f"training: {error}") from error


if __name__ == "__main__":
    main()
