"""ViDoRe through mteb: right numbers, kept runs, nothing run twice, and data from where it is."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.errors import ConfigError, DocumentError, ModelError
from moca_rag.records import Floats, Query
from tests.fakes import ColourEncoder
from tests.toy_vidore import (
    TASKS,
    judge,
    rescore,
    stay_offline,
    use_encoder,
    write_copies,
    write_plain,
)

ENGLISH = 0.80470  # of the three English queries, worked out by hand: (0.95023 + 0.96386 + 0.5) / 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_copies(tmp_path_factory.mktemp("vidore"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stay_offline(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> ColourEncoder:
    return use_encoder(monkeypatch, ColourEncoder())


@pytest.mark.parametrize("version", TASKS)
def test_mtebs_number_is_ours_and_that_of_run_and_qrels(version: str, data: Path, encoder: ColourEncoder) -> None:
    report = judge(version, data)
    [task] = report.tasks
    written = json.loads(Path(f"out/results/local__colours/1/{task.name}.json").read_text())
    theirs = {row["hf_subset"]: row for row in written["scores"]["test"]}
    assert len(task.subsets) == {"v1": 1, "v2": 4, "v3": 6}[version]
    for subset in task.subsets:
        kept = Path(f"out/runs/local__colours/1/{task.name}/{subset.name}.json")
        for cut, ours in ((5, subset.ndcg_5), (10, subset.ndcg_10)):
            assert rescore(kept, cut) == pytest.approx(ours, abs=1e-9)
            assert theirs[subset.name][f"ndcg_at_{cut}"] == pytest.approx(ours, abs=1e-5)
        if subset.name == "english":
            assert (subset.num_queries, subset.ndcg_5) == (3, pytest.approx(ENGLISH, abs=1e-5))
            assert subset.num_ties > 0
    assert report.official == ("ndcg_10" if version == "v3" else "ndcg_5")
    assert report.missing == {"v1": 9, "v2": 9, "v3": 54}[version]


def test_the_papers_settings_pool_queries_where_mteb_averages_languages(data: Path, encoder: ColourEncoder) -> None:
    report = judge("v2", data, tasks=[])
    esg = next(task for task in report.tasks if task.name == TASKS["v2"])
    english, french = (next(s for s in esg.subsets if s.name == name) for name in ("english", "french"))
    assert len(report.tasks) == 4
    assert report.missing == 0
    assert len(report.settings) == 7
    assert report.settings["ESG_Syn"] == english.ndcg_5
    pooled = (9 * english.ndcg_5 + 2 * french.ndcg_5) / 11
    assert report.settings["ESG_Syn_Mul"] == pytest.approx(pooled)
    assert esg.ndcg_5 == pytest.approx((3 * english.ndcg_5 + french.ndcg_5) / 4)


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_corpus_is_encoded_once_for_all_its_languages(version: str, data: Path, encoder: ColourEncoder) -> None:
    judge(version, data)
    assert encoder.num_pages == 6


def test_only_the_languages_asked_for_are_run_and_others_join_them_later(data: Path, encoder: ColourEncoder) -> None:
    first = judge("v3", data, languages=["fra"])
    assert [subset.name for subset in first.tasks[0].subsets] == ["french"]
    judge("v3", data, languages=["english", "french"])
    written = json.loads(Path(f"out/results/local__colours/1/{TASKS['v3']}.json").read_text())
    assert {row["hf_subset"] for row in written["scores"]["test"]} == {"english", "french"}


# -- resuming ---------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_run_again(data: Path, encoder: ColourEncoder) -> None:
    before = judge("v2", data)
    assert judge("v2", data) == before
    assert encoder.num_pages == 6


def test_a_lost_run_changed_data_and_changed_settings_are_run_again(
    data: Path, encoder: ColourEncoder, place: Path
) -> None:
    own = place / "own"
    shutil.copytree(data / TASKS["v1"], own / TASKS["v1"])
    judge("v1", own)
    next(Path("out/runs").rglob("default.json")).unlink()
    judge("v1", own)
    assert encoder.num_pages == 12
    encoder.card = replace(encoder.card, page_prompt="Look:")
    judge("v1", own)
    assert encoder.num_pages == 18
    shutil.rmtree(own)
    write_plain(own / TASKS["v1"], questions={"10": ("red", "english", {"1": 1})})
    assert judge("v1", own).tasks[0].ndcg_5 == 1
    assert encoder.num_pages == 24


def test_a_stopped_run_goes_on_with_the_next_language(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(ColourEncoder):
        asked, limit = 0, 2

        def encode_queries(self, queries: Sequence[Query]) -> Floats:
            self.asked += 1
            if self.asked > self.limit:
                raise KeyboardInterrupt
            return super().encode_queries(queries)

    encoder = use_encoder(monkeypatch, Stopping())
    with pytest.raises(KeyboardInterrupt):
        judge("v3", data)
    encoder.asked, encoder.limit = 0, 9
    assert len(judge("v3", data).tasks[0].subsets) == 6
    assert encoder.asked == 4


def test_half_a_result_file_is_none(data: Path, encoder: ColourEncoder) -> None:
    before = judge("v2", data)
    path = Path(f"out/results/local__colours/1/{TASKS['v2']}.json")
    path.write_text(path.read_text()[:500])
    assert judge("v2", data) == before
    assert json.loads(path.read_text())["task_name"] == TASKS["v2"]


def test_a_run_that_does_not_give_mtebs_number_is_not_believed(data: Path, encoder: ColourEncoder) -> None:
    judge("v1", data)
    path = next(Path("out/runs").rglob("default.json"))
    path.write_text(path.read_text().replace("corpus-test-1", "corpus-test-7"))
    with pytest.raises(ModelError, match=r"mteb says ndcg_cut_5 0\.79"):
        judge("v1", data)


def test_what_cannot_be_asked_for_is_refused(data: Path, encoder: ColourEncoder) -> None:
    for options, complaint in (
        ({"tasks": ["Vidore3HrRetrievl"]}, "did you mean 'Vidore3HrRetrieval'"),
        ({"languages": ["klingon"]}, "known: "),
        ({"mode": "text"}, "add --engine"),
        ({"model": None}, "--model"),
        ({"model": None, "index": index_documents, "mode": "vision"}, "needs a model"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            judge("v3", data, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"known: v1, v2, v3, v3\.1"):
        judge("v9", data)
    with pytest.raises(ConfigError, match="none of these tasks has queries in french"):
        judge("v2", data, languages=["french"], tasks=["Vidore2ESGReportsHLRetrieval"])


# -- data sets --------------------------------------------------------------------------------------------------------


def test_a_data_set_that_is_nowhere_takes_no_other_task_away(data: Path, encoder: ColourEncoder) -> None:
    report = judge("v1", data, tasks=[TASKS["v1"], "VidoreDocVQARetrieval"])
    assert [task.name for task in report.tasks] == [TASKS["v1"]]
    reason = report.failed["VidoreDocVQARetrieval"]
    assert "hf download mteb/docvqa_test_subsampled_beir --repo-type dataset --revision e78cd13" in reason
    assert f"--local-dir {data}/docvqa_test_subsampled_beir, then --data {data}" in reason
    with pytest.raises(DocumentError, match="neither local nor cached"):
        judge("v1", data, tasks=["VidoreDocVQARetrieval"])


def test_a_copy_that_is_no_copy_is_named(place: Path, encoder: ColourEncoder) -> None:
    (place / TASKS["v1"]).mkdir()
    with pytest.raises(DocumentError, match=f"{TASKS['v1']} is no copy of mteb/arxivqa_test_subsampled_beir"):
        judge("v1", place)


def test_a_hub_that_does_not_answer_is_asked_once(
    encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    asked = []

    class Session:
        def head(self, *_: Any, **__: Any) -> None:
            asked.append(1)
            raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    with pytest.raises(DocumentError, match="the hub does not give it"):
        judge("v1", place, tasks=[TASKS["v1"], "VidoreDocVQARetrieval"])
    assert len(asked) == 1
