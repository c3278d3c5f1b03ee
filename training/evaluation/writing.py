"""How texts of a language are counted, split and scored: in words, or in characters where no spaces separate words."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from icu4py.breakers import SentenceBreaker, WordBreaker
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer


class CharacterTokenizer(Tokenizer):  # type: ignore[misc]  # rouge-score has no types
    """Every letter, ideograph and digit is a token; as in English, punctuation and white space are none."""

    def tokenize(self, text: str) -> list[str]:
        normalized = unicodedata.normalize("NFKC", text).lower()
        return [character for character in normalized if character.isalnum()]


@dataclass(frozen=True, slots=True)
class Writing:
    """One way of writing.

    units: what lengths are counted in; `glue` joins them to a text again.
    leads: lengths of the lead baselines, about those of headlines.
    longest_headline: references whose median is longer than this are sentences, and not compared with leads.
    lengths: sizes that texts are brought to, to see whether long input falls apart.
    """

    unit: str
    units: Callable[[str], Sequence[str]]
    glue: str
    leads: tuple[int, ...]
    longest_headline: int
    lengths: tuple[int, ...]
    rouge: Callable[[], Tokenizer]


WORDS = Writing("words", str.split, " ", (8, 11, 14), 16, (100, 300, 600, 1500), lambda: DefaultTokenizer(True))
CHARACTERS = Writing(
    "characters", lambda text: "".join(text.split()), "", (16, 22, 28), 40, (600, 1500, 3000), CharacterTokenizer
)


def writing(language: str) -> Writing:
    """The writing of a language, a BCP 47 tag."""
    return CHARACTERS if language.split("-")[0] in ("zh", "ja") else WORDS


def sentences(text: str, language: str) -> list[str]:
    """Sentences as ICU finds them (UAX #29), which knows common abbreviations of the language."""
    whole = (sentence.strip() for sentence in SentenceBreaker(text, f"{language}@ss=standard"))
    return [sentence for sentence in whole if sentence]


def words(text: str, language: str) -> list[str]:
    """Words as ICU finds them, with its dictionary for Chinese; lower-case, punctuation left out."""
    return [word.lower() for word in WordBreaker(text, language) if any(map(str.isalnum, word))]
