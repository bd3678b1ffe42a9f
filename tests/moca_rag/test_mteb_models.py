"""Models as mteb runs them: nothing wins by accident, and other people's models run too."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from moca_rag.errors import ConfigError, ModelError
from moca_rag.records import Floats, Pixels, Query
from tests.fakes import ColourEncoder, HalvesEncoder
from tests.small_model import train_tokenizer, write_small_model
from tests.toy_vidore import (
    TASKS,
    judge,
    judge_engine,
    stay_offline,
    use_encoder,
    write_copies,
    write_plain,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_copies(tmp_path_factory.mktemp("vidore"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stay_offline(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class NanEncoder(ColourEncoder):
    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        return (row * np.float32(np.nan) for row in super().encode_pages(images))


class ConstantEncoder(ColourEncoder):
    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        return (np.full(4, 0.5, np.float32) for _ in images)


class LongEncoder(ColourEncoder):
    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        return (2 * row for row in super().encode_pages(images))


class OrderEncoder(ColourEncoder):
    """Gives its n-th query the embedding of its n-th page, whatever they show."""

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        return np.eye(8, dtype=np.float32)[: len(queries)]

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        return (np.eye(8, dtype=np.float32)[place] for place, _ in enumerate(images))


@pytest.mark.parametrize("with_engine", [False, True])
@pytest.mark.parametrize(
    ("kind", "complaint"), [(NanEncoder, "not finite"), (ConstantEncoder, "all"), (LongEncoder, "length 2")]
)
def test_embeddings_that_cannot_be_judged_are_refused(
    kind: type[ColourEncoder], complaint: str, with_engine: bool, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_encoder(monkeypatch, kind())
    with pytest.raises(ModelError, match=complaint):
        judge_engine(data, "vision") if with_engine else judge("v1", data)
    assert not list(Path("out").rglob(f"{TASKS['v1']}.json"))


def test_an_encoder_cannot_win_by_the_order_of_pages(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mteb
    from mteb.models import SearchEncoderWrapper

    from moca_rag.mteb_models import PageModel
    from moca_rag.progress import SilentReporter
    from moca_rag.task_data import TaskData

    names = ("red", "green", "blue", "red green", "green blue", "red blue")
    write_plain(
        place / TASKS["v1"],
        questions={f"{10 + n}": (name, "english", {f"{n + 1}": 1}) for n, name in enumerate(names)},
    )
    task, source = mteb.get_task(TASKS["v1"]), TaskData(place, place / "cache")
    source.point(task)
    source.load(task)
    model = SearchEncoderWrapper(PageModel(OrderEncoder(), SilentReporter()))
    fooled = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    assert fooled.task_results[0].get_score() == 1
    use_encoder(monkeypatch, OrderEncoder())
    assert judge("v1", place).tasks[0].ndcg_5 < 0.6


# -- other models -----------------------------------------------------------------------------------------------------


def test_a_name_of_mtebs_registry_is_run_by_mteb(data: Path) -> None:
    report = judge("v1", data, "mteb/baseline-random-encoder")
    assert report.model == "mteb/baseline-random-encoder"
    assert 0 < report.tasks[0].ndcg_5 < 1


def test_a_sentence_encoder_reads_the_text_of_pages_and_nothing_else(data: Path, place: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(train_tokenizer(), embedding_weights=weights)]).save("sentences")
    report = judge("v3.1", data, "sentences", languages=["english"])
    assert report.model == "local/sentences"
    assert report.revision.startswith("local-")
    assert report.tasks[0].ndcg_10 > 0.5
    with pytest.raises(ConfigError, match=r"reads text, and the pages of VidoreArxivQARetrieval are image alone"):
        judge("v1", data, "sentences")


@pytest.mark.filterwarnings("ignore")
def test_mtebs_own_moca_breaks_on_this_transformers_and_ours_does_not(data: Path, place: Path) -> None:
    from mteb.models.model_implementations.moca_models import MoCaWrapper

    folder = write_small_model(place / "published", layout="old")
    with pytest.raises(RuntimeError, match="_update_causal_mask no longer exists"):
        MoCaWrapper(str(folder), device="cpu")
    report = judge("v1", data, str(folder))
    assert report.model == "local/published"
    assert 0 < report.tasks[0].ndcg_5 < 1


def test_a_page_is_found_by_the_best_of_its_regions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_encoder(monkeypatch, HalvesEncoder())
    alone = judge("v3.1", data, languages=["english", "french"]).tasks[0]
    assert alone.ndcg_10 == judge_engine(data, "vision").tasks[0].ndcg_10 > 0.5
