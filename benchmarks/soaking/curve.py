"""The picture of a soak: what was held over time, and when it was disturbed."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Record

PANELS = (
    ("memory, MiB", ("mib", "service_mib")),
    ("files, threads", ("files", "threads")),
    ("latency of a probe, ms", ("latency_ms",)),
)
COLOURS = {"burst": "tab:orange", "reload": "tab:green"}  # all others are faults


def draw(path: Path, samples: Sequence[Record], events: Sequence[Record]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, areas = pyplot.subplots(len(PANELS), figsize=(9, 8), layout="constrained", sharex=True)
    for area, (label, names) in zip(areas, PANELS, strict=True):
        for event in events:
            area.axvline(event["second"] / 60, color=COLOURS.get(event["event"], "tab:red"), alpha=0.25, linewidth=1)
        for name in names:
            points = [(each["second"] / 60, each[name]) for each in samples if each[name] is not None]
            area.plot([x for x, _ in points], [y for _, y in points], label=name)
        area.set(ylabel=label, ylim=(0, None))
        area.grid(True, alpha=0.3)
        area.legend(fontsize=8, loc="lower right")
    areas[0].set_title("Lines: orange a burst, red a fault, green a reload")
    areas[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
