"""The search, token for token that of Hugging Face `generate` over the library's own models, whatever it may be asked.

Models are small, random and of float64; what they prefer is computed by the library from the whole of each prefix.
`generate` sums in float32 all the same, so that near-ties remain: the cases are random, but always the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.models.base import Candidates, DecodingOptions, EarlyStopping, Shared, Special
from app.search import BeamSearch, Found, GreedySearch, Search, select

PAD, BOS, END, OTHER_END, FIRST = range(5)
VOCABULARY = 24
CANDIDATES = Candidates(Shared(range(VOCABULARY)))
library: Any = transformers  # it has types for a part of what it does


@cache
def bart() -> Any:
    torch.manual_seed(1)
    config = library.BartConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        init_std=0.6,
    )
    model = library.BartForConditionalGeneration(config).double().eval()
    model.final_logits_bias[0, END] = 2.0
    return blank(model)


@cache
def t5() -> Any:
    torch.manual_seed(2)
    config = library.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        tie_word_embeddings=False,
    )
    model = library.T5ForConditionalGeneration(config).double().eval()
    model.lm_head.weight.data[END] *= 3
    return blank(model)


def blank(model: Any) -> Any:
    """A model that asks for nothing by itself."""
    model.generation_config = library.GenerationConfig()
    return model


@dataclass(frozen=True)
class Asked:
    """What both are asked, and what the checkpoint asks of both."""

    options: DecodingOptions
    special: Special

    def config(self) -> Any:
        """In the words of the library, which counts what stands before and after the summary."""
        options, special = self.options, self.special
        before = 1 + len(special.forced)
        of_beams = {"length_penalty": options.length_penalty, "early_stopping": options.early_stopping}
        return library.GenerationConfig(
            num_beams=options.num_beams,
            **(of_beams if options.num_beams > 1 else {}),
            max_length=before + options.max_length + 1,
            min_length=before + options.min_length,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            repetition_penalty=options.repetition_penalty,
            pad_token_id=PAD,
            decoder_start_token_id=special.start,
            eos_token_id=[special.end, *special.other_ends],
            forced_bos_token_id=special.forced[0] if special.forced else None,
            forced_eos_token_id=special.end if special.forced_end else None,
            suppress_tokens=list(special.suppressed) or None,
            begin_suppress_tokens=list(special.suppressed_first) or None,
            bad_words_ids=[list(word) for word in special.bad_words] or None,
            do_sample=False,
        )


tokens = st.integers(0, VOCABULARY - 1)
words = st.integers(FIRST + 1, VOCABULARY - 1)
specials = st.builds(
    Special,
    start=st.sampled_from([PAD, BOS, END]),
    end=st.just(END),
    suppressed=st.lists(words, max_size=2).map(tuple),
    suppressed_first=st.lists(tokens, max_size=2).map(tuple),
    forced=st.sampled_from([(), (BOS,), (FIRST,)]),
    other_ends=st.sampled_from([(), (OTHER_END,)]),
    bad_words=st.lists(words.map(lambda one: (one,)) | st.tuples(words, tokens), max_size=2).map(tuple),
    as_generate=st.just(True),
    forced_end=st.booleans(),
)
stopping: st.SearchStrategy[EarlyStopping] = st.sampled_from([False, True, "never"])


@st.composite
def options(draw: st.DrawFn, beams: st.SearchStrategy[int]) -> DecodingOptions:
    longest = draw(st.integers(1, 10))
    return DecodingOptions(
        draw(beams),
        longest,
        draw(st.just(0) | st.integers(0, longest)),
        draw(st.sampled_from([1.0, 0.0, 2.0, -1.0]) | st.floats(-2, 3)),
        draw(st.integers(0, 4)),
        numbers_from_source=False,
        repetition_penalty=draw(st.just(1.0) | st.floats(1.0, 3.0)),
        early_stopping=draw(stopping),
    )


def asked(beams: st.SearchStrategy[int]) -> st.SearchStrategy[Asked]:
    return st.builds(Asked, options(beams), specials)


class Decoder:
    """A model and a source that it has encoded."""

    def __init__(self, model: Any, source: Sequence[int]) -> None:
        self._model = model
        self.source = torch.tensor([source])
        self._encoded = model.get_encoder()(self.source).last_hidden_state

    def logits(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """Of what follows upon each token: (prefixes, length, vocabulary) float32, as `generate` reads them."""
        states = self._encoded.expand(len(prefixes), -1, -1)
        output = self._model(
            encoder_outputs=(states,), decoder_input_ids=torch.tensor(prefixes), use_cache=False, return_dict=True
        )
        logits: Tensor = output.logits.float()
        return logits

    def generate(self, asked: Asked) -> list[int]:
        """What the library writes after the start."""
        sequence: list[int] = self._model.generate(self.source, generation_config=asked.config())[0].tolist()
        return sequence[1:]

    def search(self, asked: Asked) -> Found:
        kind = GreedySearch if asked.options.num_beams == 1 else BeamSearch
        search: Search = kind(asked.options, asked.special, CANDIDATES)
        prefixes: list[tuple[int, ...]] = [()] * search.width
        while search.found is None:
            written = search.written()
            live = [(*prefix, token) for prefix, token in zip(prefixes, written, strict=False)]
            logits = self.logits(live)[:, -1]
            answers = select(logits.log_softmax(1), search.asks(), logits.logsumexp(1))
            parents = search.advance(answers)
            prefixes = [live[parent] for parent in parents] + prefixes[len(parents) :]
        return search.found


@pytest.fixture(params=[bart, t5], ids=["BART", "T5"], scope="module")
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


@torch.inference_mode()
def check(model: Any, source: Sequence[int], asked: Asked) -> None:
    decoder = Decoder(model, source)
    found, (*expected, last) = decoder.search(asked), decoder.generate(asked)
    tokens, special = found.hypothesis.tokens, asked.special
    assert [*special.forced, *tokens] == expected
    # Whether the model would have ended by itself where its end is forced the library does not tell.
    if not special.forced_end or len(tokens) < asked.options.max_length:
        assert (found.finish_reason == "stop") == (last in (special.end, *special.other_ends))
    raw = decoder.logits([[special.start, *special.forced, *tokens]])[0, len(special.forced) :].log_softmax(1)
    told = [float(raw[place, token]) for place, token in enumerate(tokens)]
    assert found.hypothesis.log_probabilities == pytest.approx(told, abs=1e-5)


sources = st.lists(words, min_size=1, max_size=12)


@given(sources, asked(st.integers(2, 5)))
@settings(max_examples=120, derandomize=True)
def test_beam_search_writes_what_generate_writes(model: Any, source: list[int], asked: Asked) -> None:
    check(model, source, asked)


@given(sources, asked(st.just(1)))
@settings(max_examples=60, derandomize=True)
def test_greedy_search_writes_what_generate_writes(model: Any, source: list[int], asked: Asked) -> None:
    check(model, source, asked)
