from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moca_rag.config import load_settings, read_pairs
from moca_rag.errors import ConfigError


@dataclass(frozen=True)
class Knobs:
    batch: int = 8
    rate: float = 0.1
    name: str = "a"
    fast: bool = False
    limit: int | None = None


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "knobs.yaml"
    path.write_text("batch: 16\nrate: 0.5\n")
    assert load_settings(Knobs(), path, ["batch=32", "fast=true", "limit=3"]) == Knobs(32, 0.5, "a", True, 3)


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'batch'"):
        load_settings(Knobs(), None, ["bach=2"])


@pytest.mark.parametrize("word", ["batch=many", "fast=perhaps", "batch=2.5", "limit=x"])
def test_a_value_of_another_type_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="is not of the type"):
        load_settings(Knobs(), None, [word])


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "batch: true\n"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "knobs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_settings(Knobs(), path)


def test_none_stays_none() -> None:
    assert load_settings(Knobs(limit=3), None, ["limit=null"]).limit is None


@pytest.mark.parametrize("pair", ["year", "=3", "year=", " = "])
def test_a_pair_without_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match="write key=value"):
        read_pairs([pair], "--tag")


def test_a_list_in_brackets_is_yaml() -> None:
    @dataclass(frozen=True)
    class Sizes:
        sizes: tuple[int, ...] = ()

    assert (
        load_settings(Sizes(), None, ["sizes=[1, 2]"]) == load_settings(Sizes(), None, ["sizes=1,2"]) == Sizes((1, 2))
    )
    with pytest.raises(ConfigError, match=r"sizes=\[1, 2 is not YAML"):
        load_settings(Sizes(), None, ["sizes=[1, 2"])


def test_names_with_values_are_a_table_of_yaml() -> None:
    @dataclass(frozen=True)
    class Rates:
        rates: dict[str, float] = field(default_factory=dict)

    assert load_settings(Rates(), None, ["rates={a.*: 2, b: 0.5}"]) == Rates({"a.*": 2.0, "b": 0.5})
    for word in ("rates=2", "rates={1: 2}", "rates={a: fast}", "rates={a"):
        with pytest.raises(ConfigError, match="rates"):
            load_settings(Rates(), None, [word])
