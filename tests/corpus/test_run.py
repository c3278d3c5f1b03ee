"""A run that is ended, wherever it is, and taken up again gives what an uninterrupted one does, byte for byte."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import Settings
from app.corpus import lines
from app.corpus.files import Compression
from app.corpus.lines import LineCorpus
from app.corpus.run import Job, run
from app.corpus.shards import Layout
from app.corpus.work_folder import Count, work_on
from app.engine.engine import Engine
from app.errors import CorpusError
from app.schemas import Options, Parameters
from tests.corpus import rows
from tests.corpus.rows import LINES, FakeWorkers, write
from tests.fakes import FakeModel, fake_info

NEVER = -1


class Killed(BaseException):
    """Nothing is tidied up behind it."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with rows.engine() as engine:
        yield engine


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "SHARD_ROWS", 2)


def summarize(
    engine: Engine,
    path: Path,
    *,
    compression: Compression = "",
    most_rejected: int | None = None,
    options: Options | None = None,
    workers: FakeWorkers | None = None,
    **layout: Any,
) -> Count:
    """To `out` beside the input."""
    corpus = LineCorpus(path, Layout(compression=compression, **layout))
    job = Job(corpus, options or Options(), Settings(), most_rejected)
    with work_on(path.with_name("out")) as folder:
        return run(job, folder, workers or FakeWorkers(engine, options), rows.Count())


def results(folder: Path) -> dict[str, bytes]:
    """All that lies there but the input."""
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir() if path.name != "in"}


def killed_at(moment: int, patch: pytest.MonkeyPatch) -> None:
    """Instead of the moment-th thing that is done to the disk, or just after it: as if the process were killed."""
    moments = itertools.count()

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_or_die(*arguments: Any, **named: Any) -> Any:
            if next(moments) == moment:
                raise Killed
            found = act(*arguments, **named)
            if next(moments) == moment:
                raise Killed
            return found

        return act_or_die

    for place, name in [*((Path, name) for name in ("replace", "unlink", "mkdir", "rmdir")), (os, "fsync")]:
        patch.setattr(place, name, dying(getattr(place, name)))


@settings(max_examples=50)
@given(content=LINES, moments=st.lists(st.integers(0, 40), max_size=3), compression=st.sampled_from(["", ".zst"]))
def test_a_run_that_was_killed_goes_on_where_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    engine: Engine,
    content: Sequence[bytes],
    moments: list[int],
    compression: Compression,
) -> None:
    undisturbed, disturbed = (tmp_path_factory.mktemp("run") for _ in range(2))
    count = summarize(engine, write(undisturbed / "in", content), compression=compression)
    assert count.rows == sum(1 for line in content if line.strip())
    path = write(disturbed / "in", content)
    for moment in [*moments, NEVER]:
        try:
            with pytest.MonkeyPatch.context() as patch:
                killed_at(moment, patch)
                assert summarize(engine, path, compression=compression) == count
            break
        except Killed:
            continue
        except CorpusError:  # it was killed when all was done
            break
    assert results(disturbed) == results(undisturbed)


GOOD = [json.dumps({"text": f"{word} bravo"}).encode() for word in ("alpha", "golf", "hotel", "lima", "mike")]


def begun(engine: Engine, folder: Path, **chosen: Any) -> Path:
    """A run that was killed when two of its three shards were finished."""

    class Dying(FakeWorkers):
        def summarize(self, *arguments: Any) -> Iterator[Any]:
            yield from itertools.islice(super().summarize(*arguments), 2)
            raise Killed

    path = write(folder / "in", GOOD)
    with pytest.raises(Killed):
        summarize(engine, path, workers=Dying(engine, chosen.get("options")), **chosen)
    return path


def test_what_is_finished_is_not_done_again(engine: Engine, tmp_path: Path) -> None:
    path = begun(engine, tmp_path)
    workers = FakeWorkers(engine)
    assert summarize(engine, path, workers=workers) == Count(5, 0)
    assert workers.shards == [2]


def test_rows_of_an_earlier_run_are_shown_as_done(engine: Engine, tmp_path: Path) -> None:
    path, shown = begun(engine, tmp_path), rows.Count()
    with work_on(tmp_path / "out") as folder:
        job = Job(LineCorpus(path, Layout()), Options(), Settings())
        run(job, folder, FakeWorkers(engine), shown)
    assert (shown.total, shown.before, shown.done) == (5, 4, 5)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"options": Options(parameters=Parameters(num_beams=1))}, "parameters num beams was None and is 1"),
        ({"options": Options(truncation="error")}, "truncation was 'head' and is 'error'"),
        ({"summary_field": "headline"}, "layout summary field was 'summary' and is 'headline'"),
        ({"compression": ".zst"}, "layout compression was '' and is '.zst'"),
    ],
)
def test_another_run_does_not_go_on_with_it(engine: Engine, tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    path = begun(engine, tmp_path)
    with pytest.raises(CorpusError, match=f"out.partial: belongs to another run: {told}. Go on as it was begun, or"):
        summarize(engine, path, **changed)
    assert summarize(engine, path) == Count(5, 0), "nothing is lost by that"


@pytest.mark.parametrize("field", ["digest", "precision", "name", "device"])
def test_another_model_does_not_go_on_with_it(engine: Engine, tmp_path: Path, field: str) -> None:
    path = begun(engine, tmp_path)
    other = rows.engine(FakeModel(fake_info(**{field: "other"})))
    with pytest.raises(CorpusError, match=f"model {field} was '.*' and is 'other'"):
        summarize(other, path, workers=FakeWorkers(other))


def test_another_input_does_not_go_on_with_it(engine: Engine, tmp_path: Path) -> None:
    path = begun(engine, tmp_path)
    write(path, [*GOOD, b"{}"])
    with pytest.raises(CorpusError, match="input sha256 was"):
        summarize(engine, path)
    write(path, GOOD)
    assert summarize(engine, path) == Count(5, 0), "the same input, written anew, is the same"


def test_an_input_that_changes_meanwhile_is_told(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", GOOD)

    class Changing(FakeWorkers):
        def summarize(self, *arguments: Any) -> Iterator[Any]:
            write(path, GOOD[:3])
            yield from super().summarize(*arguments)

    with pytest.raises(CorpusError, match="changed while it was read"):
        summarize(engine, path, workers=Changing(engine))
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", GOOD)
    (tmp_path / "out").write_bytes(b"precious")
    with pytest.raises(CorpusError, match="out: there already; remove it, or name another output"):
        summarize(engine, path)
    assert results(tmp_path) == {"out": b"precious"}


def test_a_folder_of_somebody_elses_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", GOOD)
    theirs = tmp_path / "out.partial" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_bytes(b"precious")
    with pytest.raises(CorpusError, match=r"out\.partial: is in the way, with 'thesis.txt' in it"):
        summarize(engine, path)
    assert theirs.read_bytes() == b"precious"


def test_a_second_process_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", GOOD)
    with work_on(tmp_path / "out"), pytest.raises(CorpusError, match=r"out\.partial: another process works on it"):
        summarize(engine, path)
    assert summarize(engine, path) == Count(5, 0)


def test_too_many_bad_rows_end_it_and_a_larger_number_goes_on(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", [GOOD[0], b"{", GOOD[1], b"{", GOOD[2], b"{"])
    with pytest.raises(CorpusError, match="2 rows were set aside, more than --max-rejected 1"):
        summarize(engine, path, most_rejected=1)
    with pytest.raises(CorpusError, match="more than --max-rejected 1"):
        summarize(engine, path, most_rejected=1)
    assert summarize(engine, path, most_rejected=3) == Count(3, 3)
    assert [json.loads(line)["row"] for line in (tmp_path / "out.rejected.jsonl").read_bytes().splitlines()] == [
        2,
        4,
        6,
    ]


def test_what_an_older_run_set_aside_does_not_stay(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in", [*GOOD, b"{"])
    summarize(engine, path)
    (tmp_path / "out").unlink()
    write(path, GOOD)
    summarize(engine, path)
    assert set(results(tmp_path)) == {"out"}


def test_how_large_shards_and_the_engine_are_changes_nothing(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = set()
    for number, (size, max_rows, threads) in enumerate([(1, 4, 1), (3, 16, 2), (1024, 64, 1)]):
        monkeypatch.setattr(lines, "SHARD_ROWS", size)
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write(folder / "in", [*GOOD, b"{", *GOOD])
        with Engine(FakeModel(), max_rows=max_rows, max_queue=64, threads=threads) as other:
            summarize(engine, path, workers=FakeWorkers(other))
        outputs.add((folder / "out").read_bytes() + (folder / "out.rejected.jsonl").read_bytes())
    assert len(outputs) == 1
