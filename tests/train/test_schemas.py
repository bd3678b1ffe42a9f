"""Lists that published tables hold as Python source: parsed where they are lists of strings, refused otherwise."""

import pytest
from moca_rag.train.rows import RowError
from moca_rag.train.schemas import read_strings


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "['a', ['b']]",
        "['a' 'b']",
        "[f'{1}']",
        "[b'a']",
        "['a', 1]",
        "('a',)",
        "['a'] + ['b']",
        "['a', *['b']]",
        "['a",
        "[" * 100_000,
        "-" * 100_000 + "1",
        "['\\N{nothing of this name}']",
        "[" + "'a'," * 300_000 + "]",
    ],
    ids=range(14),
)
def test_only_lists_of_strings_are_parsed(text: str) -> None:
    with pytest.raises(RowError):
        read_strings(text)


def test_lists_come_back_as_python_writes_them() -> None:
    for values in ([], ["a"], ["it's", 'say "x"', "line\nbreak", "\\", "é東\U0001f600", "", "\x00"]):
        assert read_strings(repr(values)) == values
    assert read_strings(" ['a', None,] ") == ["a", ""]
    assert read_strings("'alone'") == ["alone"]
