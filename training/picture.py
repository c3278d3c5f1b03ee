"""One attention matrix as a picture: summary words down, source words across."""

from pathlib import Path

from app.alignment import Aligned, align
from app.cli.picture import heatmap, labelled
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
    columns = [item.text for item in aligned.source]
    rows = [labelled(item.text, item.copied) for item in aligned.summary]
    path.parent.mkdir(parents=True, exist_ok=True)
    heatmap(aligned.weights, columns, rows, path)
