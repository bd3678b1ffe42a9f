"""Which pages are kept: English only, and nothing twice."""

import random

import pytest
from moca_rag.train.screening import Sieve, compare_sketches, is_english, sketch_words

WORDS = [f"word{number}" for number in range(3000)]


def prose(seed: int, num_words: int = 300) -> list[str]:
    return random.Random(seed).choices(WORDS, k=num_words)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The keeper of the pump has to see that it is oiled in time, and that the seal is new.", True),
        ("Le gardien de la pompe doit veiller à ce qu'elle soit huilée à temps et que le joint soit neuf.", False),
        ("Der Wärter der Pumpe sorgt dafür, dass sie rechtzeitig geölt wird und die Dichtung neu ist.", False),
        ("De wachter van de pomp moet ervoor zorgen dat die op tijd wordt gesmeerd en dat alles nieuw is.", False),
        ("Хранитель насоса следит за тем, чтобы он был смазан. The pump is oiled.", False),
        (r"\def\pump#1{\ifx\oil\relax\expandafter\seal\else\csname#1\endcsname\fi}", False),
        ("4711 0815 12.5 99.9 " * 20 + "the of and to that is for", False),
        ("Let x be the sum of y and z, and let f of x be the root of g for k in m or n.", False),
        ("The pump is o iled b y the k eep er of the sh ip, and the s eal is n ew if it c an b e.", False),
        ("", False),
    ],
)
def test_english_is_told_from_other_languages_and_from_code(text: str, told: bool) -> None:
    assert is_english(text) is told


def test_the_same_words_in_another_dress_are_the_same_page() -> None:
    sieve = Sieve(0.3)
    assert sieve.refuse("The pump, oiled.") == ""
    assert sieve.refuse("the  PUMP\noiled") == "same page"
    assert sieve.refuse("the pump oils") == ""


def test_a_page_that_shares_enough_with_a_kept_one_is_near_it() -> None:
    for seed in range(20):
        words = prose(seed)
        sieve = Sieve(0.3)
        assert sieve.refuse(" ".join(words)) == ""
        assert sieve.refuse(" ".join(words[100:] + prose(seed + 100, 100))) == "near page"  # half of all runs in common
        assert sieve.refuse(" ".join(words[240:] + prose(seed + 200, 240))) == ""  # a ninth
        assert sieve.refuse(" ".join(prose(seed + 300))) == ""


def test_the_same_words_in_another_order_are_another_page() -> None:
    words = prose(1)
    sieve = Sieve(0.3)
    assert sieve.refuse(" ".join(words)) == ""
    assert sieve.refuse(" ".join(sorted(words))) == ""


def test_the_estimate_is_near_the_true_similarity() -> None:
    for num_common in (100, 200, 250):
        one, other = prose(1), prose(2)
        other[:num_common] = one[:num_common]
        sets = [{tuple(words[start : start + 5]) for start in range(296)} for words in (one, other)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert compare_sketches(sketch_words(one), sketch_words(other)) == pytest.approx(true, abs=0.1)


def test_a_page_of_few_words_has_a_sketch_too() -> None:
    assert len(sketch_words(["pump"])) == len(sketch_words([])) == 1
    assert compare_sketches(sketch_words(["pump"]), sketch_words(["seal"])) == 0
