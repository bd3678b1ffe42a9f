"""Finding, naming and reading model folders, without a network."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from moca_rag import checkpoint
from moca_rag.checkpoint import (
    Checkpoint,
    ModelSettings,
    find_checkpoint,
    hash_folder,
    list_weights,
    read_card,
    read_json,
    read_settings,
)
from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError, ModelError
from moca_rag.records import FusionWeights, PixelBudget
from tests.small_model import write_small_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a test touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def cached_model(cache: Path, owner: str, name: str) -> Path:
    repository = cache / f"models--{owner}--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return write_small_model(repository / "snapshots" / COMMIT)


def test_a_local_folder_is_taken_under_the_name_it_was_given(tmp_path: Path) -> None:
    write_small_model(tmp_path)
    found = find_checkpoint(tmp_path)
    assert (found.name, found.folder) == (str(tmp_path), tmp_path)
    assert found.revision == hash_folder(tmp_path)


def test_the_hub_caches_copy_is_taken_before_any_network(hub_cache: Path) -> None:
    folder = cached_model(hub_cache, "someone", "some-model")
    found = find_checkpoint("someone/some-model")
    assert (found.name, found.revision) == ("someone/some-model", COMMIT)
    assert found.folder.samefile(folder)


def test_half_a_copy_in_the_cache_is_not_taken(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached_model(hub_cache, "someone", "some-model")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="no whole copy of it in the hub cache"):
        find_checkpoint("someone/some-model")


def test_an_unknown_folder_or_an_impossible_name_never_asks_the_hub(tmp_path: Path) -> None:
    for model in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "a/b/c", "alone", "../up", "", "a/b?c"):
        with pytest.raises(ModelError, match=r"no model folder at .*hub id"):
            find_checkpoint(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_checkpoint(tmp_path)


@pytest.mark.usefixtures("hub_cache")
def test_with_the_hub_switched_off_an_unknown_model_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"someone/unknown .*switched off.*hf download someone/unknown") as caught:
        find_checkpoint("someone/unknown")
    assert time.monotonic() - start < 1
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub_cache")
def test_an_unreachable_hub_is_asked_once_and_never_downloaded_from(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fail(_: HfApi, name: str, **__: Any) -> None:
        asked.append(name)
        raise OSError("no route\nto host")

    monkeypatch.setattr(HfApi, "model_info", fail)
    monkeypatch.setattr(checkpoint, "HUB_SECONDS", 5)
    with pytest.raises(ModelError, match="could not be reached") as caught:
        find_checkpoint("someone/unknown")
    assert asked == ["someone/unknown"]
    assert "no route to host" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_that_never_answers_costs_about_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: time.sleep(4))
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"no answer in 1\.5 s"):
        find_checkpoint("someone/unknown")
    assert time.monotonic() - start < 2.5


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(("kind", "message"), [(RepositoryNotFoundError, "check the name"), (GatedRepoError, "login")])
def test_a_model_that_the_hub_does_not_give_is_refused_with_what_to_do(
    kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusal(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            Exception.__init__(self)

    def refuse(*_: Any, **__: Any) -> None:
        raise Refusal

    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(ModelError, match=message):
        find_checkpoint("someone/unknown")


def test_a_model_of_the_hub_is_fetched_once_without_nested_or_pickled_files(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    find_locally = huggingface_hub.snapshot_download

    def download(name: str, **options: Any) -> str:
        if options.get("local_files_only"):
            return str(find_locally(name, **options))
        calls.append(options)
        return str(cached_model(hub_cache, "someone", "some-model"))

    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2):
        assert find_checkpoint("someone/some-model").revision == COMMIT
    assert calls == [{"allow_patterns": ["*.json", "*.safetensors"], "ignore_patterns": ["*/*"]}]


def test_the_revision_changes_with_weights_config_tokenizer_and_settings_only(tmp_path: Path) -> None:
    seen = {hash_folder(write_small_model(tmp_path))}
    assert hash_folder(write_small_model(tmp_path)) in seen
    (tmp_path / "trainer_state.json").write_text("{}")
    (tmp_path / "README.md").write_text("hello")
    assert hash_folder(tmp_path) in seen
    for settings in ("{}", '{"weights": {"vision": 0.1}}'):  # how far search believes the model is not of the model
        (tmp_path / "moca.json").write_text(settings)
        seen.add(hash_folder(tmp_path))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        seen.add(hash_folder(tmp_path))
    seen.add(hash_folder(write_small_model(tmp_path, seed=1)))
    assert len(seen) == 5


def test_the_revision_of_a_large_model_costs_a_moment(tmp_path: Path) -> None:
    write_small_model(tmp_path)
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.truncate(8 * 2**30)  # sparse: 8 GB by its length
    start = time.monotonic()
    hash_folder(tmp_path)
    assert time.monotonic() - start < 0.5


def test_the_card_is_read_without_loading_torch(tmp_path: Path) -> None:
    write_small_model(tmp_path, layout="old")
    program = (
        "import sys; from moca_rag.checkpoint import read_card; print(read_card(sys.argv[1]), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == f"{read_card(str(tmp_path))} False"


def test_the_card_is_the_one_of_the_opened_model(tmp_path: Path) -> None:
    write_small_model(tmp_path)
    (tmp_path / "moca.json").write_text('{"page_prompt": "Page:", "max_pixels": 300000}')
    for budget in (None, PixelBudget(784, 7840)):
        assert read_card(tmp_path, budget) == Embedder.open(tmp_path, device="cpu", pixels=budget).card
    assert read_card(tmp_path).dimension == 64


@pytest.mark.parametrize("config", ['{"model_type": "qwen2_5_vl"}', '{"model_type": "qwen2_5_vl", "text_config": []}'])
def test_a_config_without_a_dimension_is_refused(tmp_path: Path, config: str) -> None:
    write_small_model(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match="no usable config"):
        read_card(tmp_path)


def test_a_card_may_promise_fewer_numbers_and_never_more_than_there_are(tmp_path: Path) -> None:
    write_small_model(tmp_path)
    assert [read_card(tmp_path, dimension=number).dimension for number in (1, 32, 64)] == [1, 32, 64]
    for number in (0, -1, 65):
        with pytest.raises(ConfigError, match=f"embeddings of {number} numbers .* give 1 to 64"):
            read_card(tmp_path, dimension=number)


def local(folder: Path) -> Checkpoint:
    return Checkpoint(str(folder), folder, "")


def test_settings_default_to_those_of_the_method(tmp_path: Path) -> None:
    expected = ModelSettings("Represent the given document image.", "", 200_704, 802_816, None, 2048)
    assert read_settings(local(tmp_path)) == expected


def test_settings_live_with_the_model(tmp_path: Path) -> None:
    values: dict[str, Any] = {"page_prompt": "", "query_prompt": "Q: ", "min_pixels": 784, "max_pixels": 7840}
    values |= {"mask_token_id": 151_665, "max_tokens": 64, "drop_blank": True}
    values |= {"regions": 12}
    (tmp_path / "moca.json").write_text(json.dumps({**values, "weights": {"vision": 0.1, "wordless": 1}}))
    assert read_settings(local(tmp_path)) == ModelSettings(**values, weights=FusionWeights(vision=0.1, wordless=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"page_promt": "x"}', "unknown setting 'page_promt', did you mean 'page_prompt'"),
        ('{"min_pixels": "many"}', "min_pixels must be of type int, not 'many'"),
        ('{"max_pixels": true}', "max_pixels must be of type int, not True"),
        ('{"query_prompt": null}', "query_prompt must be of type str"),
        ('{"min_pixels": 9, "max_pixels": 3}', "are no range"),
        ('{"min_pixels": 0}', "are no range"),
        ('{"mask_token_id": -1}', "is no token"),
        ('{"max_tokens": 63}', "max_tokens 63 is too short for a page: give 64 or more"),
        ('{"max_tokens": 2048.0}', "max_tokens must be of type int"),
        ('{"vision_weight": 0.3}', "unknown setting 'vision_weight'"),
        ('{"weights": 1}', "weights must be an object such as"),
        ('{"weights": {"visoin": 1}}', "unknown weight 'visoin', did you mean 'vision'"),
        ('{"weights": {"vision": -0.1}}', "moca.json: weights: vision is -0.1: give a number from 0 to 1"),
        ('{"weights": {"text": true}}', "text is True: give a number from 0 to 1"),
        ('{"weights": {"text": NaN}}', "text is nan: give a number from 0 to 1"),
        ('{"regions": 0}', "regions 0 is no number of parts of a page: give 1 to 64"),
        ('{"regions": 65}', "give 1 to 64"),
        ('{"drop_blank": 1}', "drop_blank must be of type bool"),
        ("[]", "must hold a JSON object"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_unusable_settings_are_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "moca.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_settings(local(tmp_path))


def test_a_file_that_is_no_text_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_json(tmp_path / "config.json")


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="pickled, which can run code: convert them to safetensors"):
        list_weights(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks its weights \(model\.safetensors\)"):
        list_weights(tmp_path)
    write_small_model(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"\(model-00002-of-00003\.safetensors\)"):
        list_weights(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"a": "../secret.safetensors"}}'])
def test_an_index_that_names_no_file_of_the_folder_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path.parent / "secret.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match="lacks its weights"):
        list_weights(tmp_path)
