"""Which format a file has: its name tells."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from app.corpus.files import Compression
from app.corpus.lines import LineCorpus
from app.corpus.shards import Corpus, Layout
from app.errors import ConfigurationError

LINES, TABLE = (".jsonl", ".ndjson"), ".parquet"
NEEDED = {".zst": "zstandard", TABLE: "pyarrow"}


def open_corpus(path: Path, output: Path, layout: Layout) -> Corpus:
    """The input, to be written as the output's name says.

    Raises ConfigurationError where a name says nothing, or something that is not installed.
    """
    ending, compression = _ending(path)
    output_ending, output_compression = _ending(output)
    if (ending == TABLE) is not (output_ending == TABLE):
        raise ConfigurationError(f"{output}: Parquet comes out of Parquet, JSON Lines out of JSON Lines")
    if ending == TABLE:
        from app.corpus.tables import TableCorpus

        return TableCorpus(path, layout)
    return LineCorpus(path, replace(layout, compression=output_compression), compression)


def _ending(path: Path) -> tuple[str, Compression]:
    name = path.name.lower()
    compression: Compression = next((each for each in get_args(Compression) if each and name.endswith(each)), "")
    ending = next((each for each in (*LINES, TABLE) if name.removesuffix(compression).endswith(each)), "")
    if not ending or (ending == TABLE and compression):
        known = "*.jsonl, *.jsonl.zst, *.jsonl.gz or *.parquet"
        raise ConfigurationError(f"{path}: its name does not tell what it is; it should be {known}")
    needed = NEEDED.get(ending) or NEEDED.get(compression)
    if needed and find_spec(needed) is None:
        raise ConfigurationError(f"{path}: {needed} is not installed; say pip install 'precis[corpus]'")
    return ending, compression
