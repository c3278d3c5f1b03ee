"""What no model is needed for: the beginning of a text, and the one sentence of it that an extractive method picks."""

import statistics
from collections.abc import Iterator, Sequence

from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
from sumy.nlp.stemmers import Stemmer
from sumy.summarizers.text_rank import TextRankSummarizer
from sumy.utils import get_stop_words

from training.evaluation.writing import sentences, words, writing

_SUMY_LANGUAGES = {"en": "english", "zh": "chinese"}


def baselines(
    texts: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> Iterator[tuple[str, list[str]]]:
    """Name and summaries of each baseline. Leads only beside headlines: a few words cannot compete with sentences."""
    script = writing(language)
    if statistics.median(len(script.units(one)) for wanted in references for one in wanted) <= script.longest_headline:
        for count in script.leads:
            yield f"first {count} {script.unit}", [script.glue.join(script.units(text)[:count]) for text in texts]
    yield "first sentence", [next(iter(sentences(text, language)), "") for text in texts]
    if language.split("-")[0] in _SUMY_LANGUAGES:
        extract = TextRank(language)
        yield "TextRank, one sentence", [extract(text) for text in texts]


class TextRank:
    """TextRank (Mihalcea and Tarau 2004) of `sumy`, on ICU's sentences and words instead of data to be downloaded."""

    def __init__(self, language: str) -> None:
        known = _SUMY_LANGUAGES[language.split("-")[0]]
        self._language = language
        self._rank = TextRankSummarizer(Stemmer(known))
        self._rank.stop_words = get_stop_words(known)

    def __call__(self, text: str) -> str:
        """The sentence of the text that is most like the others; empty when there is none."""
        found = [Sentence(sentence, self) for sentence in sentences(text, self._language)]
        return " ".join(map(str, self._rank(ObjectDocumentModel([Paragraph(found)]), 1)))

    def to_words(self, sentence: str) -> tuple[str, ...]:
        """What sumy asks of a tokenizer."""
        return tuple(words(sentence, self._language))
