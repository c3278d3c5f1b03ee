"""Texts that break offsets, and a small tokenizer to break them with."""

import functools

from hypothesis import strategies as st

from app.models.lstm.tokenizer import Tokenizer

CORPUS = (
    "The council of Greyford approved a new bridge over the river on Monday, after a vote of 7 to 2.",
    "Engineers say the bridge, which costs 3.5 million pounds, will open in 2031.",
    "“It isn't too late,” said the mayor; ‘we’re ready’.",
    "昨天在北京举行的会议上，代表们讨论了新的桥梁计划。",
    "Crème brûlée — naïve café, 😀 👩‍👩‍👧 done.",
)

_HARD = (
    *(
        "😀",
        "👩‍👩‍👧",
        "🇪🇨",
        "北京",
        "，",
        "é",
        "e\u0301",
        "\u0301",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\r\n",
        "\n\n",
        "\t",
        "  ",
    ),
    *(
        "\u00a0",
        "\u3000",
        "\u2028",
        "\x00",
        "\x1f",
        "\x85",
        "’",
        "“",
        "ﷺ",
        "\u202e",
        "مرحبا",
        "</s>",
        "<s>",
        "<pad>",
        "Ġ",
        "Ċ",
    ),
)


@functools.cache
def trained_tokenizer(vocabulary_size: int = 320, language: str = "en") -> Tokenizer:
    """Few merges, so that many characters are split over several tokens."""
    return Tokenizer.train(CORPUS, vocabulary_size, language)


def texts() -> st.SearchStrategy[str]:
    """Non-blank texts of ordinary and difficult pieces; no lone surrogates, which the service refuses at its edge."""
    anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    pieces = st.lists(st.sampled_from([*_HARD, *CORPUS[0].split()]) | anything, min_size=1, max_size=12)
    return st.builds(lambda parts, glue: glue.join(parts), pieces, st.sampled_from(["", " "])).filter(str.strip)
