import sqlite3

import pytest

from moca_rag.terms import STOP_WORDS, TOKENIZER, index_columns, match_expression, question_words, sign_pairs


def find(text: str, question: str, *, title: str = "", name: str = "a.pdf") -> bool:
    """Whether a page with this text is found by this question in a real full-text index."""
    db = sqlite3.connect(":memory:")
    db.execute(f'CREATE VIRTUAL TABLE page_text USING fts5 (body, context, pairs, tokenize="{TOKENIZER}")')
    db.execute("INSERT INTO page_text VALUES (?, ?, ?)", index_columns(text.split(), title, name, ()))
    expression = match_expression(question)
    assert expression is not None
    found = db.execute("SELECT count(*) FROM page_text WHERE page_text MATCH ?", (expression,)).fetchone()[0] == 1
    db.close()
    return found


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The committees were meeting", "Which committee met at a meeting?"),
        ("東京都の人口は千四百万人です", "人口"),
        ("東京都の人口は千四百万人です", "人"),
        ("การประชุมประจำปี", "ประชุม"),
        ("서울의 인구는 천만이다", "인구"),
        ("Der Verbrauch für Müller", "fur MULLER"),
        ("total of 3,754.60 dollars", "3,754.60"),
        ("the year-end balance", "year end"),
        ("हिन्दी में पाठ", "हिन्दी"),
        ('he said "OR" NEAR( AND', 'say "NEAR(" AND OR NOT ^a* b:c'),
        ("l'eau potable", "eau"),
    ],
)
def test_a_question_finds_the_page_that_holds_its_word(text: str, question: str) -> None:
    assert find(text, question)


def test_a_question_of_other_words_finds_nothing() -> None:
    assert not find("東京都の人口", "京人")
    assert not find("alpha beta", "gamma")
    assert not find("total 3,754 and 60", "3,760")


def test_title_and_file_name_are_searched_as_context() -> None:
    assert find("nothing here", "annual plan", title="Annual Plan")
    assert find("nothing here", "GSA 2022", name="GSA2022_final-report.pdf")


def test_stop_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert question_words("What is the total?") == ["total"]
    assert question_words("who is who") == ["who", "is"]
    assert {"what", "der", "les", "quale"} <= STOP_WORDS


def test_a_stop_word_beside_signs_is_left_out() -> None:
    assert match_expression("what is 人口") == '"人口"'


@pytest.mark.parametrize("question", ["", "   ", "?!…", "—", "\x00", "%%%"])
def test_a_question_without_a_word_has_no_expression(question: str) -> None:
    assert match_expression(question) is None


def test_pairs_overlap_and_stop_at_the_end_of_a_run() -> None:
    assert sign_pairs("日本語 abc 水") == ["日本", "本語", "水"]
