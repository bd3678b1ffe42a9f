"""MMEB: rows and pictures as published, every candidate encoded once, nothing won by order or by ties."""

import json
import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import HfApi

from moca_rag.errors import ConfigError, DocumentError, ModelError
from moca_rag.metrics import score_run
from moca_rag.mmeb import GROUPS, TASKS, MmebReport, average_scores, evaluate_mmeb, score_candidates
from moca_rag.mmeb_data import REPO, Item, Pictures, find_data, read_rows
from moca_rag.records import Floats, Query
from tests.fakes import SMALL, ColourEncoder, unit
from tests.small_mmeb import SLOT, colour_rows, draw_png, make_row, picture_rows, write_mmeb, write_rows

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class CountingEncoder(ColourEncoder):
    """Knows what it was asked for."""

    def __init__(self, revision: str = "1") -> None:
        super().__init__(revision)
        self.asked: Counter[str] = Counter()

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        self.asked.update(query.text + ("" if query.image is None else " *") for query in queries)
        return super().encode_queries(queries)


class FakeEncoder(ColourEncoder):
    """Gives queries (the first call of a task) and candidates the embeddings of two functions of their place."""

    def __init__(self, candidate: Any) -> None:
        super().__init__()
        self._candidate = candidate
        self._num_calls = 0

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        self._num_calls += 1
        if self._num_calls % 2:
            return np.stack([unit([1, 0, 0, 0.001 * place]) for place in range(len(queries))])
        return np.stack([np.asarray(self._candidate(place), np.float32) for place in range(len(queries))])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_mmeb(tmp_path / "data", {"OK-VQA": colour_rows("OK-VQA"), "VisDial": picture_rows("VisDial")})


def judge(data: Path, out: Path, encoder: ColourEncoder | None = None, **options: Any) -> MmebReport:
    return evaluate_mmeb(encoder or ColourEncoder(), out, data=data, **options)


def test_precision_at_1_is_the_share_of_rows_whose_first_candidate_wins(data: Path, tmp_path: Path) -> None:
    report = judge(data, tmp_path / "out")
    assert list(report.scores) == ["OK-VQA", "VisDial"]
    assert {task: score.precision_at_1 for task, score in report.scores.items()} == {"OK-VQA": 2 / 3, "VisDial": 1.0}
    assert [(score.num_queries, score.num_candidates) for score in report.scores.values()] == [(3, 3), (3, 3)]
    assert report.averages == {}
    assert report.missing == [task for task in TASKS if task not in ("OK-VQA", "VisDial")]
    low, high = report.scores["OK-VQA"].interval
    assert low < 2 / 3 < high


def test_every_score_can_be_recomputed_from_the_kept_run_and_qrels(data: Path, tmp_path: Path) -> None:
    report = judge(data, tmp_path / "out")
    for task, score in report.scores.items():
        run: dict[str, dict[str, float]] = {}
        for line in (report.folder / f"{task}.run").read_text().splitlines():
            query, _, candidate, _, cosine, _ = line.split()
            run.setdefault(query, {})[candidate] = float(cosine)
        qrels = {
            line.split()[0]: line.split()[2] for line in (report.folder / f"{task}.qrels").read_text().splitlines()
        }
        won = [all(run[q][gold] > other for name, other in run[q].items() if name != gold) for q, gold in qrels.items()]
        assert len(won) == score.num_queries
        assert sum(won) / len(won) == score.precision_at_1
        trec = score_run({query: {gold: 1} for query, gold in qrels.items()}, run, ["P_1"])
        assert sum(row["P_1"] for row in trec.values()) / len(trec) == pytest.approx(score.precision_at_1)


def test_a_run_keeps_the_best_ten_and_the_right_one_wherever_it_stands(tmp_path: Path) -> None:
    texts = ["blue", *(f"red {'green ' * count}" for count in range(1, 15))]
    data = write_mmeb(tmp_path / "data", {"CIRR": [make_row("red", "", texts)]})
    lines = (judge(data, tmp_path / "out").folder / "CIRR.run").read_text().splitlines()
    assert [int(line.split()[3]) for line in lines] == [*range(1, 11), 15]
    assert lines[-1].split()[2] == Item("blue", "").item_id
    cosines = [float(line.split()[4]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)


def test_each_distinct_candidate_is_encoded_once_and_texts_once_for_all_tasks(tmp_path: Path) -> None:
    tasks = {"OK-VQA": colour_rows("OK-VQA"), "GQA": colour_rows("GQA"), "VisDial": picture_rows("VisDial")}
    encoder = CountingEncoder()
    judge(write_mmeb(tmp_path / "data", tasks), tmp_path / "out", encoder)
    assert [encoder.asked[word] for word in ("red", "green", "blue")] == [1, 1, 1]
    assert encoder.asked["Represent the given image.\n *"] == 3


def test_a_candidate_that_stands_twice_in_a_row_is_no_rival_of_itself(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {"CIRR": [make_row("red", "", ["red", "blue", "red", ""])]})
    score = judge(data, tmp_path / "out").scores["CIRR"]
    assert (score.precision_at_1, score.num_ties, score.num_candidates) == (1.0, 0, 2)


def many_rows(num_rows: int, num_rivals: int) -> list[dict[str, Any]]:
    return [make_row(f"q{row}", "", [f"{row} {rival}" for rival in range(num_rivals + 1)]) for row in range(num_rows)]


def test_an_encoder_that_wins_by_candidate_order_wins_nothing(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {"CIRR": many_rows(40, 4)})
    report = judge(data, tmp_path / "out", FakeEncoder(lambda place: unit([1, 0.01 * place, 0, 0])))
    assert report.scores["CIRR"].precision_at_1 < 0.45  # chance is 0.2; by order it is 1


def test_a_right_candidate_that_shares_the_first_place_counts_as_wrong(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {"CIRR": many_rows(10, 3)})
    report = judge(data, tmp_path / "out", FakeEncoder(lambda place: unit([1, 0, 1 - 2 * (place % 2), 0])))
    assert (report.scores["CIRR"].precision_at_1, report.scores["CIRR"].num_ties) == (0.0, 10)


def test_equal_candidates_score_equal_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    query, candidate = rng.normal(size=(2, 2048)).astype(np.float32)
    for count in range(1, 40):
        assert len(np.unique(score_candidates(query, np.tile(candidate, (count, 1))))) == 1


@pytest.mark.parametrize(
    ("candidate", "complaint"),
    [
        (lambda _: unit([1, 0, 0, 0]), "tells nothing apart"),
        (lambda place: [np.nan, 0, 0, place], "not finite"),
        (lambda place: [2, 0, 0, place], "has the length"),
    ],
)
def test_an_encoder_that_tells_nothing_is_refused(tmp_path: Path, candidate: Any, complaint: str) -> None:
    data = write_mmeb(tmp_path / "data", {"CIRR": many_rows(3, 3)})
    with pytest.raises(ModelError, match=f"the candidates of CIRR.*{complaint}"):
        judge(data, tmp_path / "out", FakeEncoder(candidate))
    assert not list((tmp_path / "out").rglob("*.json"))


def test_a_task_that_is_done_is_not_judged_again(data: Path, tmp_path: Path) -> None:
    first = judge(data, tmp_path / "out", tasks=["OK-VQA"])
    encoder = CountingEncoder()
    report = judge(data, tmp_path / "out", encoder)
    assert report.scores["OK-VQA"] == first.scores["OK-VQA"]
    assert not any("What colour" in asked for asked in encoder.asked)
    assert encoder.asked


def test_a_stopped_run_goes_on_with_the_next_task(data: Path, tmp_path: Path) -> None:
    class Stopped(ColourEncoder):
        def encode_queries(self, queries: Sequence[Query]) -> Floats:
            if queries[0].text.startswith("Find"):
                raise KeyboardInterrupt
            return super().encode_queries(queries)

    with pytest.raises(KeyboardInterrupt):
        judge(data, tmp_path / "out", Stopped())
    encoder = CountingEncoder()
    assert len(judge(data, tmp_path / "out", encoder).scores) == 2
    assert "red" not in encoder.asked


def test_other_rows_and_other_models_are_judged_anew(data: Path, tmp_path: Path) -> None:
    first = judge(data, tmp_path / "out")
    write_rows(data, "OK-VQA", colour_rows("OK-VQA")[:2])
    assert judge(data, tmp_path / "out").scores["OK-VQA"].precision_at_1 == 1.0
    other = judge(data, tmp_path / "out", CountingEncoder("2"))
    assert other.folder != first.folder
    assert json.loads((other.folder / "OK-VQA.json").read_text())["model"]["revision"] == "2"


def test_half_a_result_file_is_judged_anew(data: Path, tmp_path: Path) -> None:
    first = judge(data, tmp_path / "out")
    for content in ("", "{", "[]", json.dumps({"data": read_rows(data, "OK-VQA").digest})):
        (first.folder / "OK-VQA.json").write_text(content)
        assert judge(data, tmp_path / "out").scores == first.scores


def test_prompts_go_in_as_published_with_the_picture_in_its_slot(data: Path) -> None:
    pictures = Pictures(data, SMALL)
    query = pictures.make_query(Item(f"{SLOT}\nRepresent the given image.\n", "OK-VQA/red.png"))
    assert query.text == "Represent the given image.\n"  # an encoder puts the line break after the picture
    assert query.image is not None
    assert query.image[0, 0].tolist() == [255, 0, 0]
    assert query.image.size // 3 <= SMALL.max_pixels
    assert pictures.make_query(Item("two cats", "")) == Query("two cats")
    assert pictures.make_query(Item(f"{SLOT}\nNo picture", "")) == Query("\nNo picture")


def test_pictures_come_from_a_folder_as_from_the_zip(data: Path, tmp_path: Path) -> None:
    in_zip = Pictures(data, SMALL).read("OK-VQA/green.png")
    with zipfile.ZipFile(data / "images.zip") as archive:
        archive.extractall(data / "images")
    (data / "images.zip").unlink()
    assert np.array_equal(Pictures(data, SMALL).read("OK-VQA/green.png"), in_zip)
    assert judge(data, tmp_path / "out").scores["VisDial"].precision_at_1 == 1.0


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/passwd", "OK-VQA/../../secret.png", "..\\secret.png", "out.png"]
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_path_that_leaves_the_pictures_is_refused(data: Path, path: str, packed: bool) -> None:
    (data / "secret.png").write_bytes(draw_png("red"))
    if packed:
        with zipfile.ZipFile(data / "images.zip", "a") as archive:
            if path != "out.png":
                archive.writestr(path, draw_png("red"))
    else:
        (data / "images" / "OK-VQA").mkdir(parents=True)
        (data / "images" / "out.png").symlink_to(data / "secret.png")
    with pytest.raises(DocumentError, match=r"is refused|is not in images\.zip"):
        Pictures(data, SMALL).read(path)


@pytest.mark.parametrize("fault", ["missing", "broken", "cut"])
def test_a_picture_that_cannot_be_read_stops_its_task_alone_and_names_the_row(
    data: Path, tmp_path: Path, fault: str
) -> None:
    with zipfile.ZipFile(data / "images.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    whole = files.pop("VisDial/blue.png")
    if fault != "missing":
        files["VisDial/blue.png"] = b"no picture" if fault == "broken" else whole[: len(whole) // 2]
    with zipfile.ZipFile(data / "images.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    report = judge(data, tmp_path / "out")
    assert list(report.scores) == ["OK-VQA"]
    assert report.failed["VisDial"].startswith("row 1: the picture VisDial/blue.png is ")
    assert not (report.folder / "VisDial.json").exists()


def test_rows_of_another_shape_are_named(data: Path) -> None:
    for rows, complaint in (
        ([make_row("q", "", ["a"]) | {"tgt_img_path": ["", ""]}], "row 1: .*lists of one length"),
        ([make_row("q", "", ["a"]), make_row("", "", ["a"])], "row 2: .*neither text nor picture"),
        ([make_row("q", "", ["", "a"])], "row 1: .*neither text nor picture"),
        ([{"qry_text": "q", "qry_img_path": "", "tgt_text": ["a"]}], "has no column tgt_img_path"),
        ([make_row("q", "", ["a"]) | {"qry_text": 7}], "row 1: .*strings"),
    ):
        write_rows(data, "OK-VQA", rows)
        with pytest.raises(DocumentError, match=complaint):
            read_rows(data, "OK-VQA")
    next((data / "OK-VQA").iterdir()).write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DocumentError, match="is not a parquet file"):
        read_rows(data, "OK-VQA")


def test_a_task_may_come_in_several_files_or_as_one_beside_the_others(data: Path) -> None:
    whole = read_rows(data, "OK-VQA")
    path = write_rows(data, "OK-VQA", colour_rows("OK-VQA")[:1])
    os.replace(path, path.with_name("test-00000-of-00002.parquet"))
    path = write_rows(data, "OK-VQA", colour_rows("OK-VQA")[1:])
    os.replace(path, path.with_name("test-00001-of-00002.parquet"))
    assert read_rows(data, "OK-VQA").digest == whole.digest
    os.replace(write_rows(data, "OK-VQA", colour_rows("OK-VQA")), data / "OK-VQA.parquet")
    assert read_rows(data, "OK-VQA").digest == whole.digest


def test_averages_are_over_tasks_and_only_over_whole_groups(tmp_path: Path) -> None:
    data = write_mmeb(tmp_path / "data", {task: colour_rows(task)[: 2 + (task == "GQA")] for task in TASKS})
    report = judge(data, tmp_path / "out")
    assert report.averages == pytest.approx(
        {"Classification": 1, "VQA": 29 / 30, "Retrieval": 1, "Grounding": 1}
        | {"IND": 1, "OOD": 1 - 1 / 48, "Overall": 1 - 1 / 108}
    )
    assert {name: len(tasks) for name, tasks in GROUPS.items()} == {
        **{"Classification": 10, "VQA": 10, "Retrieval": 12, "Grounding": 4},
        **{"IND": 20, "OOD": 16, "Overall": 36},
    }
    assert average_scores(dict.fromkeys(TASKS[1:], 1.0)).keys() == {"VQA", "Retrieval", "Grounding", "OOD"}


def test_unknown_tasks_and_missing_data_are_one_clear_line(data: Path, tmp_path: Path) -> None:
    for options, complaint in (
        ({"tasks": ["OKVQA"]}, "no task 'OKVQA': did you mean 'OK-VQA'"),
        ({"tasks": ["CIRR"]}, r"has no CIRR/test-\*\.parquet"),
        ({"data": tmp_path / "nowhere"}, f"hf download {REPO} --repo-type dataset --local-dir"),
        ({"data": tmp_path}, r"has no ImageNet-1K/test"),
    ):
        with pytest.raises(ConfigError, match=complaint) as caught:
            evaluate_mmeb(ColourEncoder(), tmp_path / "out", **({"data": data} | options))
        assert "\n" not in str(caught.value)
    (data / "images.zip").unlink()
    with pytest.raises(ConfigError, match=r"neither images\.zip nor images"):
        judge(data, tmp_path / "out")


def test_the_hub_caches_copy_is_taken_and_half_a_copy_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / f"datasets--{REPO.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = write_mmeb(repository / "snapshots" / COMMIT, {"CIRR": many_rows(2, 2)})
    assert find_data(None, ["CIRR"]).samefile(folder)
    for tasks in (["CIRR", "EDIS"], TASKS):
        with pytest.raises(
            ConfigError,
            match=rf"not whole in the hub cache.*HF_HUB_OFFLINE is set.*hf download {REPO} --repo-type dataset",
        ):
            find_data(None, tasks)
    (folder / "images.zip").unlink()
    with pytest.raises(ConfigError, match="not whole"):
        find_data(None, ["CIRR"])


def test_what_the_cache_lacks_is_fetched_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    find_locally, wanted = huggingface_hub.snapshot_download, []

    def download(repo: str, **options: Any) -> str:
        if options.get("local_files_only"):
            return find_locally(repo, **options)
        wanted.extend([repo, options["repo_type"], *options["allow_patterns"]])
        return str(write_mmeb(tmp_path / "fetched", {"CIRR": many_rows(2, 2)}))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    assert find_data(None, ["CIRR"]) == tmp_path / "fetched"
    assert wanted == [REPO, "dataset", "CIRR/test-*.parquet", "images.zip"]
