"""What a Hugging Face folder asks of `generate`, in the words of our API.

Where several files say something, that of `config.json` for summaries counts first (`task_specific_params`), as in the
library's own pipeline; then `generation_config.json`; where that is missing, the rest of `config.json`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from transformers import GenerationConfig

from app.errors import CheckpointError
from app.models.base import DecodingOptions, EarlyStopping, Limits, Special
from app.models.checkpoint import CONFIG, CONFIG_BYTES, Checkpoint
from app.models.config import told
from app.models.transformers.library import raised_by_library

GENERATION = "generation_config.json"
MAX_LENGTH = 128  # where nothing is asked; the 20 of `generate` would cut most summaries
Number = TypeVar("Number", int, float)
_KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", list: "an array"}
# What `generate` could do and we do not, with the values that stand for not doing it.
NOT_OFFERED: Mapping[str, tuple[object, ...]] = {
    "do_sample": (False,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "renormalize_logits": (False,),
    "exponential_decay_length_penalty": (),
    "sequence_bias": (),
    "guidance_scale": (1,),
    "constraints": (),
    "force_words_ids": (),
    "forced_decoder_ids": (),
    "stop_strings": (),
    "watermarking_config": (),
    "dola_layers": (),
    "max_time": (),
}


class Asked:
    """Of one folder. `generation` is the same in the library's words; `notes` is what is not done as asked, in lines.

    Raises CheckpointError, here and in all methods: one line with the file and the value that is wrong.
    """

    def __init__(self, checkpoint: Checkpoint, vocabulary_size: int) -> None:
        self._checkpoint, self._vocabulary_size = checkpoint, vocabulary_size
        self._file = GENERATION if GENERATION in checkpoint else CONFIG
        self._task = self._said_for_summaries()
        with raised_by_library(checkpoint.folder / self._file):
            if self._file == GENERATION:
                self.generation = GenerationConfig.from_dict(checkpoint.read_json(GENERATION, CONFIG_BYTES))
            else:
                self.generation = GenerationConfig.from_model_config(dict(checkpoint.config))
        with raised_by_library(checkpoint.folder / CONFIG):
            self.generation.update(**{name: value for name, value in self._task.items() if name != "prefix"})  # type: ignore[no-untyped-call]
        self.notes = [
            f"{name} is {told(value)}, which is not offered: summaries are searched for without it"
            for name, neutral in NOT_OFFERED.items()
            if (value := getattr(self.generation, name, None)) is not None and value not in neutral
        ]

    @property
    def prefix(self) -> object:
        """What is to stand before every text."""
        said = self._task.get("prefix", self._checkpoint.config.get("prefix"))
        return "" if said is None else said

    def special(self) -> Special:
        """The ids that have a meaning, and what no request changes."""
        ends = self._ids("eos_token_id") or self._ids("eos_token_id", self._checkpoint.config.get("eos_token_id"))
        if not ends:
            raise CheckpointError(f"{self._path('eos_token_id')}: eos_token_id is missing; add it")
        bad = [self._ids("bad_words_ids", word) for word in self._said("bad_words_ids", list) or ()]
        return Special(
            start=self._start(),
            end=ends[0],
            suppressed=self._ids("suppress_tokens"),
            suppressed_first=self._ids("begin_suppress_tokens"),
            forced=self._ids("forced_bos_token_id")[:1],
            other_ends=ends[1:],
            bad_words=tuple(word for word in bad if word and word not in [(end,) for end in ends]),
            as_generate=True,
            forced_end=not {*self._ids("forced_eos_token_id")}.isdisjoint(ends),
        )

    def longest(self, special: Special) -> int | None:
        """Of the longest summary, in tokens as we count them: neither start nor end nor what is forced."""
        around = 2 + len(special.forced)
        new: int | None = self._said("max_new_tokens", int)
        whole: int | None = self._said("max_length", int) if new is None else new + 1
        return None if whole is None else max(1, whole - around)

    def defaults(self, limits: Limits, special: Special) -> DecodingOptions:
        """Of the requests that say nothing; what the API would not take is lowered to what it does."""
        asked, most = self.longest(special), limits.max_summary_tokens
        if asked is None:
            self.notes.append(f"max_length is not said: it is {min(MAX_LENGTH, most)}")
            asked = min(MAX_LENGTH, most)
        longest = self._within("max_length", asked, 1, most)
        return DecodingOptions(
            num_beams=self._within("num_beams", self._whole("num_beams", 1), 1, limits.max_beams),
            max_length=longest,
            min_length=self._within("min_length", self._shortest(special), 0, longest),
            length_penalty=self._within("length_penalty", self._number("length_penalty", 1.0), -10.0, 10.0),
            no_repeat_ngram_size=self._within("no_repeat_ngram_size", self._whole("no_repeat_ngram_size", 0), 0, 100),
            numbers_from_source=False,
            repetition_penalty=self._within("repetition_penalty", self._number("repetition_penalty", 1.0), 1.0, 10.0),
            early_stopping=self._early_stopping(),
        )

    def _shortest(self, special: Special) -> int:
        new: int | None = self._said("min_new_tokens", int)
        whole = self._whole("min_length", 0) if new is None else new + 1
        return max(0, whole - 1 - len(special.forced))

    def _early_stopping(self) -> EarlyStopping:
        said = self.generation.early_stopping
        if said is None or isinstance(said, bool):
            return bool(said)
        if said == "never":
            return "never"
        raise self._wrong("early_stopping", said, "true, false or never")

    def _start(self) -> int:
        """As `generate` finds it; T5 starts with the padding."""
        for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
            for said in (getattr(self.generation, name, None), self._checkpoint.config.get(name)):
                if said is not None:
                    return self._id(name, said)
        raise CheckpointError(f"{self._path('')}: decoder_start_token_id is missing; add it")

    def _said(self, name: str, *kinds: type) -> Any:
        """None where nothing is said."""
        value = getattr(self.generation, name, None)
        if value is not None and type(value) not in kinds:
            raise self._wrong(name, value, _KINDS[kinds[0]])
        return value

    def _whole(self, name: str, otherwise: int) -> int:
        said: int | None = self._said(name, int)
        return otherwise if said is None else said

    def _number(self, name: str, otherwise: float) -> float:
        said = self._said(name, float, int)
        return otherwise if said is None else float(said)

    def _ids(self, name: str, said: object = None) -> tuple[int, ...]:
        """One or several; none where nothing is said."""
        said = getattr(self.generation, name, None) if said is None else said
        if said is None:
            return ()
        return tuple(self._id(name, each) for each in (said if isinstance(said, list) else [said]))

    def _id(self, name: str, said: object) -> int:
        if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said < self._vocabulary_size:
            raise self._wrong(name, said, f"the id of a token, under {self._vocabulary_size:,}")
        return said

    def _within(self, name: str, value: Number, low: Number, high: Number) -> Number:
        used = min(max(value, low), high)
        if used != value:
            self.notes.append(f"{name} is {value:,}, where requests may ask for {low:,} to {high:,}: it is {used:,}")
        return used

    def _said_for_summaries(self) -> Mapping[str, Any]:
        said: object = self._checkpoint.config
        for name in ("task_specific_params", "summarization"):
            said = said.get(name) if isinstance(said, dict) else None
        return said if isinstance(said, dict) else {}

    def _path(self, name: str) -> str:
        return str(self._checkpoint.folder / (CONFIG if name in self._task else self._file))

    def _wrong(self, name: str, value: object, must: str) -> CheckpointError:
        return CheckpointError(f"{self._path(name)}: {name} is {told(value)}; it must be {must}")
