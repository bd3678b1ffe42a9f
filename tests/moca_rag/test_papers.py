"""The paper's tables as printed, and our figures beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from moca_rag.errors import ConfigError
from moca_rag.mmeb import GROUPS, TASKS, average_scores, evaluate_mmeb
from moca_rag.papers import VIDORE_SETTINGS, compare_results, published_scores, read_results, read_tables
from tests.fakes import ColourEncoder
from tests.small_mmeb import colour_rows, write_mmeb

ROUNDING = 0.0501
# What table 4 prints against its own columns, by model and row; MMRet's two averages have changed places.
SLIPS = {("SigLIP", "Retrieval"), ("MMRet", "IND"), ("MMRet", "OOD"), ("mmE5", "Retrieval")}
LANGUAGES = ("english", "french", "german", "spanish")


def by_model(number: int) -> dict[str, dict[str, float | None]]:
    table = read_tables()[number]
    return {
        model: {task: row[place] for task, row in (table.rows | table.averages).items()}
        for place, model in enumerate(table.columns)
    }


def test_the_tables_hold_every_row_and_column_of_the_paper() -> None:
    tables = read_tables()
    assert {number: (len(table.rows), len(table.columns)) for number, table in tables.items()} == {
        **{1: (16, 7), 2: (8, 8), 3: (7, 2)},
        **{4: (36, 9)},
    }
    for table in tables.values():
        assert {len(row) for row in (table.rows | table.averages).values()} == {len(table.columns)}
    assert list(tables[4].rows) == TASKS
    assert list(tables[4].averages) == list(tables[1].columns) == list(GROUPS)


def test_the_tasks_average_to_what_table_4_prints_but_for_its_slips() -> None:
    slips = set()
    for model, column in by_model(4).items():
        averages = average_scores({task: column[task] or 0.0 for task in TASKS})
        for name, average in averages.items():
            if abs(average - (column[name] or 0.0)) > ROUNDING:
                slips.add((model, name))
    assert slips == SLIPS
    mmret, mme5 = by_model(4)["MMRet"], by_model(4)["mmE5"]
    swapped = average_scores({task: mmret[task] or 0.0 for task in TASKS})
    assert (swapped["IND"], swapped["OOD"]) == pytest.approx((mmret["OOD"], mmret["IND"]), abs=ROUNDING)
    assert average_scores({task: mme5[task] or 0.0 for task in TASKS})["Retrieval"] == pytest.approx(71.0, abs=0.1)


def test_table_1_prints_what_table_4_averages_to() -> None:
    table = read_tables()[1]
    for model in ("VLM2Vec", "MMRet", "mmE5", "MoCa-3B", "MoCa-7B"):
        column = by_model(4)[model]
        averages = average_scores({task: column[task] or 0.0 for task in TASKS})
        assert dict(zip(table.columns, table.rows[model], strict=True)) == pytest.approx(averages, abs=0.1), model


def test_table_2_prints_the_mean_of_its_settings() -> None:
    for model, row in read_tables()[2].rows.items():
        *settings, printed = [score or 0.0 for score in row]
        assert sum(settings) / 7 == pytest.approx(printed, abs=0.1), model
    assert published_scores("vidore")["MoCa-3B"]["Avg., mteb's 4"] == pytest.approx(58.8, abs=ROUNDING)
    assert published_scores("vidore")["MoCa-7B"]["Avg., mteb's 4"] == pytest.approx(57.3, abs=ROUNDING)


def test_table_3_starts_from_what_tables_1_and_2_print() -> None:
    tables = read_tables()
    assert tables[3].rows["MoCa-3B"] == [tables[1].rows["MoCa-3B"][-1], tables[2].rows["MoCa-3B"][-1]]


def test_the_published_scores_cover_baselines_and_ablations() -> None:
    mmeb = published_scores("mmeb")
    assert mmeb["GME"] == {"Classification": 56.9, "VQA": 41.2, "Retrieval": 67.8, "Grounding": 53.4, "Overall": 55.8}
    assert mmeb["w/o MLM"] == {"Overall": 66.2}
    assert mmeb["MMRet"]["IND"] == pytest.approx(68.0, abs=ROUNDING)
    assert published_scores("vidore")["w/o MLM"] == {"Avg., the paper's 7": 57.2}


def write_mteb(folder: Path, name: str, subsets: dict[str, float], **options: Any) -> Path:
    """One task's file in mteb's layout."""
    scores = [{"hf_subset": subset, "ndcg_at_5": score, "main_score": score} for subset, score in subsets.items()]
    path = folder / "someone__model" / "rev1" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task_name": name, "scores": {"test": scores}, **options}))
    (path.parent / "model_meta.json").write_text(json.dumps({"name": "someone/model"}))
    return path


def test_our_mmeb_stands_beside_the_papers_with_the_difference(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {task: colour_rows(task) for task in GROUPS["Grounding"]})
    evaluate_mmeb(ColourEncoder(), tmp_path / "out", data=data)
    (comparison,) = compare_results([tmp_path / "out"])
    assert (comparison.results.benchmark, comparison.results.model) == ("mmeb", "colours")
    assert [row.name for row in comparison.rows] == [*GROUPS["Grounding"], "Grounding"]
    assert [row.is_average for row in comparison.rows] == [False] * 4 + [True]
    first, *_, last = comparison.rows
    assert (first.theirs, first.ours) == ({"MoCa-3B": 80.2, "MoCa-7B": 84.6}, pytest.approx(200 / 3))
    assert first.difference("MoCa-7B") == pytest.approx(200 / 3 - 84.6)
    assert last.theirs["MoCa-3B"] == pytest.approx(88.65)


def test_mteb_results_become_the_papers_settings_each_over_its_languages(tmp_path: Path) -> None:
    write_mteb(tmp_path, "Vidore2ESGReportsHLRetrieval", {"default": 0.6})
    scores = dict(zip(LANGUAGES, (0.5, 0.4, 0.3, 0.2), strict=True))
    for name in sorted({task for task, subsets in VIDORE_SETTINGS.values() if subsets != ("default",)}):
        write_mteb(tmp_path, name, scores)
    write_mteb(tmp_path, "VidoreDocVQARetrieval", {"default": 0.9})
    (comparison,) = compare_results([tmp_path])
    assert comparison.results.model == "someone/model"
    assert comparison.results.others == ("VidoreDocVQARetrieval",)
    assert {row.name: row.ours for row in comparison.rows} == pytest.approx(
        {"ESG_Human": 60, "Eco_Mul": 35, "Bio": 50, "ESG_Syn": 50, "ESG_Syn_Mul": 35, "Bio_Mul": 35, "Eco": 50}
        | {"Avg., the paper's 7": 45, "Avg., mteb's 4": 41.25}
    )
    assert comparison.rows[0].difference("MoCa-3B") == pytest.approx(60 - 63.3)


def test_a_setting_that_lacks_a_language_is_no_setting(tmp_path: Path) -> None:
    path = write_mteb(tmp_path, "Vidore2ESGReportsRetrieval", {"english": 0.5, "french": 0.4})
    (results,) = read_results([path])
    assert results.scores == {"ESG_Syn": 50.0}


def test_two_models_are_two_comparisons(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {"CIRR": colour_rows("CIRR")})
    for revision in "12":
        evaluate_mmeb(ColourEncoder(revision), tmp_path / "out", data=data)
    assert len(compare_results([tmp_path / "out", *tmp_path.glob("out/mmeb/*/CIRR.json")])) == 2


def test_a_folder_of_ones_own_has_no_counterpart_in_the_paper(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"benchmark": "folder", "modes": {}}))
    (comparison,) = compare_results([tmp_path])
    assert comparison.rows == []
    assert comparison.results.others == (f"folder {tmp_path.name}",)


def test_what_cannot_be_compared_is_one_clear_line(tmp_path: Path) -> None:
    path = write_mteb(tmp_path / "mteb", "Vidore2ESGReportsRetrieval", {"english": 0.5})
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "poor.json").write_text(json.dumps({"benchmark": "mmeb", "task": "CIRR"}))
    for place, beside, complaint in (
        (path, ["MoCa-8B"], "no 'MoCa-8B': did you mean 'MoCa-"),
        (tmp_path / "empty", ["GME"], "holds no results"),
        (tmp_path / "nowhere", ["GME"], "nowhere"),
        (tmp_path / "bad.json", ["GME"], "cannot be read as JSON"),
        (tmp_path / "poor.json", ["GME"], "lacks what is compared"),
    ):
        with pytest.raises(ConfigError, match=complaint) as caught:
            compare_results([place], beside)
        assert "\n" not in str(caught.value)
