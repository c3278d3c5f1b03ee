"""One attention matrix as a picture: summary words down, source words across."""

from pathlib import Path

from matplotlib.figure import Figure

from app.alignment import Aligned, align
from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.registry import load


def attend(store: Path, name: str, text: str) -> Aligned:
    """Summarize with the checkpoint's default options; attention between words."""
    model = load(store, name)
    with Engine(model, max_rows=model.info.limits.max_beams, max_queue=1) as engine:
        (future,) = engine.submit([SummaryRequest(text, model.info.defaults, attention=True)])
        summary = future.result()
    assert summary.attention is not None
    return align(summary.attention, level="word", language=model.info.language)


def draw(aligned: Aligned, path: Path) -> None:
    """A heatmap; the darker, the larger the weight; the share copied stands behind each summary word."""
    columns, rows = len(aligned.source), len(aligned.summary)
    figure = Figure(figsize=(1.5 + 0.24 * columns, 1.8 + 0.3 * rows), layout="constrained")
    axes = figure.subplots()
    axes.imshow(aligned.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(columns), [item.text for item in aligned.source], rotation=90)
    shares = ["" if item.copied is None else f"  {item.copied:.0%} copied" for item in aligned.summary]
    labels = [item.text + share for item, share in zip(aligned.summary, shares, strict=True)]
    axes.set_yticks(range(rows), labels)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
