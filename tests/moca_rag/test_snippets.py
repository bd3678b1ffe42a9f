import pytest

from moca_rag.records import Box, Word
from moca_rag.snippets import cut_snippet, marked_words, match_boxes


def row(text: str) -> list[Word]:
    return [Word(part, Box(0.0, 0.1, 0.5, 0.12)) for part in text.split()]


def test_marks_are_counted_by_word_also_inside_and_across_words() -> None:
    assert marked_words("a \x01b\x02 c") == {1}
    assert marked_words("year-\x01end\x02, x") == {0}
    assert marked_words("the \x01net income\x02 fell \x01again\x02") == {1, 2, 4}


def test_a_pair_of_signs_is_boxed_inside_its_run() -> None:
    (match,) = match_boxes([Word("東京都の人口", Box(0.0, 0.0, 0.6, 0.1))], set(), {"人口"})
    assert match[1] == "人口"
    assert match[2] == pytest.approx((0.4, 0.0, 0.6, 0.1))


def test_a_run_that_goes_down_the_page_is_cut_across() -> None:
    (match,) = match_boxes([Word("東京都の人口", Box(0.0, 0.0, 0.05, 0.6))], set(), {"東京"})
    assert match[2] == Box(0.0, 0.0, 0.05, 0.6 * 2 / 6)


def test_overlapping_pairs_are_one_match() -> None:
    (match,) = match_boxes([Word("東京都の", Box(0.0, 0.0, 0.4, 0.1))], set(), {"東京", "京都"})
    assert match[1] == "東京都"


def test_a_snippet_shows_the_stretch_with_the_most_different_matches() -> None:
    words = row("tax " + "filler " * 80 + "tax tax " + "filler " * 80 + "tax income law " + "end " * 80)
    matched = {index for index, found in enumerate(words) if found.text in ("tax", "income", "law")}
    snippet = cut_snippet(words, matched)
    assert "tax income law" in snippet
    assert snippet.startswith("… ")
    assert snippet.endswith(" …")
    assert len(snippet) < 280


def test_without_a_match_the_page_begins_the_snippet() -> None:
    assert cut_snippet(row("one two three"), set()) == "one two three"
    assert cut_snippet([], set()) == ""
