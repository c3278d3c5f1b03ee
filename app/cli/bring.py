"""`precis models import`: a folder that was made elsewhere becomes a checkpoint of the store, once it was tried."""

import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import orjson
import typer

from app.cli.options import Device, Precision, Store, settings_of
from app.cli.output import facts, print_columns
from app.config import Settings, let_waiting_threads_sleep
from app.errors import CheckpointError
from app.models.checkpoint import PLAIN_NAME, publish
from app.schemas import Model

DRAFT = ".import-"
HUB = "models--"  # of the folders in the cache of Hugging Face


def bring(
    path: Annotated[Path, typer.Argument(help="A Hugging Face folder, as it was downloaded or saved.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the checkpoint. [dim]\\[default: that of the folder][/]")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="It may take the place of a checkpoint.")] = False,
    model_store: Store = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Make a checkpoint of a Hugging Face folder, and tell what the service will promise for it.

    Pickled weights become safetensors, in a process that cannot run what they hold. What does not belong to a
    checkpoint is left out. It is loaded and tried before it lies in the store; until then, nothing there changes.
    """
    let_waiting_threads_sleep()
    settings = settings_of(model_store=model_store, device=device, precision=precision)
    store, source = settings.model_store, Path(os.path.realpath(path))
    if not source.is_dir():
        raise CheckpointError(f"{path}: not a folder; name one that holds a checkpoint")
    target = store / _checked(name if name is not None else _name_of(source))
    keep = _place_of_original(source, target, replace)
    with _draft(store) as draft_store:
        rows, model = _tried(source, path, draft_store / target.name, settings)
        publish(draft_store / target.name, target, keep)
    if keep is not None:
        rows.append(("the folder as it was", str(keep)))
    print_columns([("checkpoint", str(target)), *facts(model), *rows])


def _name_of(source: Path) -> str:
    """In the cache of Hugging Face a folder is called by its commit, and its model two folders above."""
    model = source.parent.parent.name
    return model.rpartition("--")[2] if source.parent.name == "snapshots" and model.startswith(HUB) else source.name


def _checked(name: str) -> str:
    if not PLAIN_NAME.fullmatch(name):
        raise CheckpointError(f"{name!a} is no name for a checkpoint; choose one of letters and digits with --name")
    return name


def _place_of_original(source: Path, target: Path, replace: bool) -> Path | None:
    """Where a folder goes that lies in the store itself: nothing is removed that nobody else has.

    Raises CheckpointError where the checkpoint has no place.
    """
    if Path(os.path.realpath(target)) != source:
        if target.exists() and not replace:
            raise CheckpointError(f"{target}: there already; choose another --name, or --replace it")
        return None
    keep = target.with_name(f".{target.name}.original")
    if keep.exists():
        raise CheckpointError(f"{keep}: there already, from an earlier import; move it away")
    return keep


@contextmanager
def _draft(store: Path) -> Iterator[Path]:
    """A hidden folder of the store, to write in what may come to nothing. Nothing of it stays, whatever happens."""
    store.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for left in store.glob(f"{DRAFT}*"):
            _remove_abandoned(left)
        with tempfile.TemporaryDirectory(prefix=DRAFT, dir=store) as draft, _locked(Path(draft)):
            yield Path(draft)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CheckpointError(f"{store}: no space is left; make room, nothing was imported") from error
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """As long as this process lives. Raises BlockingIOError where another one has it."""
    import fcntl  # not of every system on which the rest of the command line works

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(draft: Path) -> None:
    """What an import left that was killed; one that is under way holds its draft."""
    with suppress(BlockingIOError, FileNotFoundError), _locked(draft):
        shutil.rmtree(draft)


def _tried(source: Path, called: Path, draft: Path, settings: Settings) -> tuple[list[tuple[str, str]], Model]:
    """Fill the draft, load it as the service would, and let it summarize. called: the source, as people know it."""
    from app.api.responses import model_json
    from app.api.service import Service
    from app.engine.trial import try_out
    from app.main import build_engine
    from app.metrics import Metrics
    from app.models import registry

    draft.mkdir()
    try:
        rows = registry.bring(source, draft)
        model = registry.load(draft.parent, draft.name, device=settings.device, precision=settings.precision)
        with build_engine(model, Service(settings, Metrics())) as engine:
            try_out(engine)
    except CheckpointError as error:
        line = str(error).replace(str(draft), str(called)).replace(str(source), str(called))
        raise CheckpointError(line) from error
    return rows, Model.model_validate_json(orjson.dumps(model_json(model.info)))
