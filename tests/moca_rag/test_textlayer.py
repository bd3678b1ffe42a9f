import pytest

from moca_rag.records import Box, Word
from moca_rag.textlayer import clean_word, join_hyphens, pack_words, unpack_words


def word(text: str, y0: float = 0.1) -> Word:
    return Word(text, Box(0.1, y0, 0.2, y0 + 0.02))


def test_packed_words_come_back_with_boxes_to_a_hundredth_of_a_millimetre() -> None:
    words = (word("Köln"), Word("東京", Box(0.0, 0.123456, 1.0, 0.2)), word("a"))
    back = unpack_words(pack_words(words))
    assert [found.text for found in back] == ["Köln", "東京", "a"]
    for found, given in zip(back, words, strict=True):
        assert found.box == pytest.approx(given.box, abs=1e-5)


def test_no_words_pack_too() -> None:
    assert unpack_words(pack_words(())) == ()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [("ﬁne", "fine"), ("ｆｕｌｌ", "full"), ("so\u00adft", "soft"), ("a\x00b", "ab"), ("\ufffd", ""), ("\ue000", "")],
)
def test_words_are_cleaned_of_what_nobody_types(raw: str, clean: str) -> None:
    assert clean_word(raw) == clean


def test_a_word_cut_at_the_end_of_a_line_is_made_whole() -> None:
    placed = [(word("infor-"), (0, 0)), (word("mation", 0.2), (0, 1)), (word("end", 0.2), (0, 1))]
    assert [found.text for found in join_hyphens(placed)] == ["information", "end"]


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [("Anglo-", "American", (0, 1)), ("year-", "end", (0, 0)), ("2020-", "report", (0, 1)), ("-", "item", (0, 1))],
)
def test_hyphens_that_cut_no_word_stay(first: str, second: str, place: tuple[int, int]) -> None:
    placed = [(word(first), (0, 0)), (word(second, 0.2), place)]
    assert [found.text for found in join_hyphens(placed)] == [first, second]
