"""The learning curve as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure


class Point(Protocol):
    """What the curve needs of a record."""

    step: int
    training_loss: float
    validation_loss: float | None
    learning_rate: float


def draw(curve: Sequence[Point], path: Path) -> None:
    """Training and validation loss over steps, learning rate beneath."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    losses.plot([point.step for point in curve], [point.training_loss for point in curve], label="training", alpha=0.6)
    measured = [(point.step, point.validation_loss) for point in curve if point.validation_loss is not None]
    if measured:
        losses.plot(*zip(*measured, strict=True), marker="o", label="validation")
    losses.set_ylabel("loss, nats a token")
    losses.legend()
    rates.plot([point.step for point in curve], [point.learning_rate for point in curve])
    rates.set_xlabel("step")
    rates.set_ylabel("learning rate")
    figure.savefig(path, dpi=100)
