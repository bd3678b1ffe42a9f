"""Turns page text and questions into what the full-text index can match: words, stems, and pairs of signs.

SQLite's FTS5 splits words and stems English. What it cannot do is done here: scripts without spaces are found by pairs
of signs (`人口` inside `東京都の人口は`), a question's stop words are left out, and its signs cannot be read as syntax.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from .textlayer import clean_word

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mc Mn'"
VERSION = 1  # part of a collection's fingerprint: a change here changes what an index holds

# Han, kana, hangul, and the scripts of South-East Asia that write without spaces.
_UNSPACED = "㐀-䶿一-鿿豈-﫿぀-ヿㇰ-ㇿ가-힯ᄀ-ᇿ฀-๿຀-໿က-႟ក-៿\U00020000-\U0003134f"
_RUN = re.compile(f"[{_UNSPACED}々ー]+")
_WORD_CATEGORIES = frozenset("Lu Ll Lt Lm Lo Nd Nl No Co Mc Mn".split())  # as in TOKENIZER

STOP_WORDS = frozenset(
    """
    a about all also an and any are as at be been but by can could did do does for from had has have how i if in into is
    it its me more most no not of on or our please should so than that the their them then there these they this those
    to us was we were what when where which who whom whose why will with would you your
    both each ever every few he her here him his just me nor once only own same she some still such too very yet
    aber als am an auch auf aus bei beim bis das dass dem den der des die durch ein eine einem einen einer eines er es
    für hat hatte ich ihr im ist kann man mit nach nicht noch nur ob oder sich sie sind so über um und uns unter vom von
    vor war waren was welche welchem welchen welcher welches wer werden wie wird wo wurde wurden zu zum zur
    au aux avec ce ces cette combien comment dans de des du elle en est et être il ils la le les leur leurs lors mais ne
    nous on ou où par pas plus pour quand que quel quelle quelles quels qui quoi sa ses son sont sur un une vous
    al cómo como con cuál cuáles cuándo cuánto del el ella es esta este está fue ha hay las lo los más no para pero por
    qué que quién se según ser si sin sobre su sus una unos y
    che chi come cosa da dal dalla dei del della delle di dove gli il nel nella per più quale quali quanto sono
    ao aos até da das do dos em entre foi na nas nos não os ou pela pelo quais qual quanto são seu sua um uma
    bij dan dat de deze die dit door een en er het hij hoe ik in is met naar niet of om ook op te tot uit van veel voor
    waar was wat welk welke wie wordt zijn
    """.split()
)


def index_columns(words: Iterable[str], title: str, name: str, headings: Sequence[str]) -> tuple[str, str, str]:
    """The three columns of the full-text index: body, context, and sign pairs.

    The body is the words joined by one space, so that the n-th word stays the n-th (marks are found by counting). The
    context is what a reader of the page knows beside it: its document's title and file name, the headings above it.
    """
    body = " ".join(words)
    context = " ".join(part for part in (title, _split_name(name), *headings) if part)
    return body, context, " ".join(sign_pairs(f"{body} {context}"))


def _split_name(name: str) -> str:
    """A file name as words: `GSA2022_final-report.pdf` reads GSA 2022 final report."""
    stem = re.sub(r"\.[A-Za-z]{2,4}$", "", name)
    parts = re.findall(r"[^\W\d_]+|\d+", stem)
    return clean_word(" ".join(parts))


def sign_pairs(text: str) -> list[str]:
    """Overlapping pairs of neighbouring signs in scripts without spaces; a lone sign stays alone.

    >>> sign_pairs("東京都 2020 水")
    ['東京', '京都', '水']
    """
    pairs: list[str] = []
    for run in _RUN.findall(text):
        pairs.extend([run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)])
    return pairs


def question_words(question: str) -> list[str]:
    """The words of a question that can tell pages apart, as phrases of one word or more; all where all are stop words.

    `year-end` is searched as both words and as the two side by side, `3,754.6` only as the whole number, and the
    letter left over by an apostrophe (`company's`, `l'eau`) not at all.

    >>> question_words("What was the company's year-end balance of 3,754.6?")
    ['company', 'year', 'end', 'year end', 'balance', '3 754 6']
    """
    words: list[str] = []
    for chunk in _RUN.sub(" ", clean_word(question)).casefold().split():
        parts = "".join(sign if _in_word(sign) else " " for sign in chunk).split()
        if len(parts) > 1 and all(part.isdecimal() for part in parts):
            words.append(" ".join(parts))
            continue
        longer = [part for part in parts if len(part) > 1] if len(parts) > 1 else parts
        words.extend(longer)
        if len(longer) > 1:
            words.append(" ".join(longer))
    kept = [word for word in words if word not in STOP_WORDS]
    return list(dict.fromkeys(kept or words))


def _in_word(sign: str) -> bool:
    return unicodedata.category(sign) in _WORD_CATEGORIES


def match_expression(question: str) -> str | None:
    """An FTS5 expression that matches pages with any word of the question; None where nothing can be searched.

    Every word is quoted: no sign of the question is read as FTS5 syntax. One sign alone is found as the first of a pair.

    >>> match_expression("What is the population of 東京都?")
    '"population" OR "東京" OR "京都"'
    >>> match_expression("?!") is None
    True
    """
    pairs = list(dict.fromkeys(sign_pairs(clean_word(question))))
    words = question_words(question)
    if pairs and all(word in STOP_WORDS for word in words):
        words = []
    parts = [f'"{word}"' for word in words]
    parts.extend(f'"{pair}"' + ("*" if len(pair) == 1 else "") for pair in pairs)
    return " OR ".join(parts) or None
