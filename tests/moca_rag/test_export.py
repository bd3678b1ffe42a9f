"""Exported folders: what other libraries make of them, what stands in them, and what is left when something fails."""

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from moca_rag import export as exporting
from moca_rag.bundled import TINY_FILES
from moca_rag.checkpoint import find_checkpoint, read_settings
from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError, ModelError
from moca_rag.export import export_model
from moca_rag.inputs import load_tokenizer
from moca_rag.records import Floats, Pixels, Query
from moca_rag.trial import DType, Format, embed_here
from tests.small_adapter import QUERY, random_pair, stored_tensors, write_adapter
from tests.small_model import write_small_model

SETTINGS = {"query_prompt": "Find: ", "page_prompt": 'A "page" ü:', "min_pixels": 50_000, "max_pixels": 90_000}
TEXTS = [
    "Why?",
    "Which bridge was closed for repairs, and when will it open again?",
    " spaces stay \n",
    "A literal <|image_pad|> or <|mask|> in a text is text.",
    "copper " * 3000,
]


def picture(rows: int, columns: int) -> Pixels:
    return np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


PICTURES = [picture(252, 280), picture(280, 224), picture(333, 700), picture(100, 120)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_model(tmp_path_factory.mktemp("old"), layout="old", shards=2)
    (folder / "moca.json").write_text(json.dumps(SETTINGS))
    return folder


@pytest.fixture(scope="module")
def plain(source: Path) -> Path:
    return export_model(source, source.parent / "plain", format="qwen", dtype="float32", check=False).folder


@pytest.fixture(scope="module")
def stranger(source: Path) -> Any:
    """An export in the hands of sentence-transformers."""
    library = pytest.importorskip("sentence_transformers")
    folder = export_model(source, source.parent / "st", dtype="float32", check=False).folder
    return library.SentenceTransformer(str(folder), device="cpu")


def far(left: Floats, right: Floats) -> float:
    return float(np.abs(left - right).max())


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# -- what sentence-transformers makes of it --------------------------------------------------------------------------


def test_texts_embed_as_ours_alone_and_beside_longer_ones(source: Path, stranger: Any) -> None:
    ours = Embedder.open(source, device="cpu").encode_queries([Query(text) for text in TEXTS])
    assert far(stranger.encode_query(TEXTS), ours) < 1e-5
    assert far(np.concatenate([stranger.encode_query([text]) for text in TEXTS]), ours) < 1e-5


def test_pages_embed_as_ours_with_the_page_prompt_also_by_plain_encode(source: Path, stranger: Any) -> None:
    ours = np.stack(list(Embedder.open(source, device="cpu").encode_pages(PICTURES)))
    images = [Image.fromarray(image) for image in PICTURES]
    assert far(stranger.encode_document(images), ours) < 1e-5
    assert far(stranger.encode(images), ours) < 1e-5


def test_queries_with_pictures_embed_as_ours(source: Path, stranger: Any) -> None:
    image = Image.fromarray(PICTURES[0])
    ours = Embedder.open(source, device="cpu").encode_queries(
        [Query("a chart", PICTURES[0]), Query(image=PICTURES[0]), Query("a chart")]
    )
    assert far(stranger.encode_query([{"text": "a chart", "image": image}, image, "a chart"]), ours) < 1e-5


def test_a_text_never_gets_the_page_prompt(stranger: Any) -> None:
    bare = stranger.encode(["some passage"], prompt="")
    assert far(stranger.encode(["some passage"]), bare) == far(stranger.encode_document(["some passage"]), bare) == 0
    assert far(stranger.encode_query(["some passage"]), bare) > 1e-3


def test_prompts_and_length_are_there_to_be_read(stranger: Any) -> None:
    assert stranger.prompts == {"query": SETTINGS["query_prompt"], "document": SETTINGS["page_prompt"]}
    assert (stranger.max_seq_length, stranger.get_embedding_dimension()) == (2048, 64)


# -- the proof --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "dtype"), [("sentence-transformers", "bfloat16"), ("qwen", "float32")])
def test_an_export_is_proven_in_a_process_of_its_own(
    source: Path, tmp_path: Path, format: Format, dtype: DType
) -> None:
    if format != "qwen":
        pytest.importorskip("sentence_transformers")
    trial = export_model(source, tmp_path / "out", format=format, dtype=dtype).trial
    assert not trial.unchecked
    assert trial.difference is not None and trial.cosine is not None
    assert trial.difference < (1e-5 if dtype == "float32" else 0.02)
    assert trial.cosine > 0.9995


@pytest.mark.parametrize("format", ["sentence-transformers", "qwen", "moca"])
def test_a_model_of_regions_is_proven_by_the_whole_page(source: Path, tmp_path: Path, format: Format) -> None:
    if format == "sentence-transformers":
        pytest.importorskip("sentence_transformers")
    parted = tmp_path / "parted"
    shutil.copytree(source, parted)
    rewrite(parted / "moca.json", regions=3)
    assert far(embed_here(parted), embed_here(source)) < 1e-6
    export = export_model(parted, tmp_path / "out", format=format, dtype="float32")
    assert export.trial.difference is not None and export.trial.difference < 1e-5
    assert json.loads((export.folder / "moca.json").read_text())["regions"] == 3


# -- what stands in the folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AutoModel", "Qwen2_5_VLForConditionalGeneration"])
def test_transformers_finds_every_tensor_in_its_place(source: Path, plain: Path, name: str) -> None:
    import transformers

    model, info = getattr(transformers, name).from_pretrained(plain, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) <= {"lm_head.weight"}
    assert model.config.text_config.is_causal is False
    loaded = (model if name == "AutoModel" else model.model).state_dict()
    stored = stored_tensors(source)
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(tensor, stored[key]) for key, tensor in loaded.items())


def test_the_export_is_a_model_of_ours_again_with_all_its_settings(source: Path, plain: Path) -> None:
    before, after = (Embedder.open(folder, device="cpu") for folder in (source, plain))
    assert {**json.loads((plain / "moca.json").read_text()), **SETTINGS} == json.loads(
        (plain / "moca.json").read_text()
    )
    assert (after.card.page_prompt, after.card.query_prompt) == (before.card.page_prompt, before.card.query_prompt)
    assert after.card.pixels == before.card.pixels
    assert far(embed_here(source), embed_here(plain)) < 1e-6


def test_the_format_moca_is_what_we_read_and_nothing_else(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m", layout="old", shards=2)  # with a head, and a leftover of training
    export = export_model(source, tmp_path / "out", format="moca", dtype="float16")
    assert {path.name for path in export.folder.iterdir()} == {*TINY_FILES}
    weights = load_file(export.folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(name.startswith(("model.", "visual.")) for name in weights)
    assert export.trial.reader.startswith("moca_rag ")
    assert export.trial.cosine is not None and export.trial.cosine > 0.999
    assert (embed_here(export.folder) * embed_here(source)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(("own", "written"), [({}, "<|mask|>"), ({"mask_token_id": 7}, 7)])
def test_an_export_names_the_id_of_the_mask(tmp_path: Path, own: dict[str, int], written: str | int) -> None:
    source = write_small_model(tmp_path / "m")
    (source / "moca.json").write_text(json.dumps(own))
    out = export_model(source, tmp_path / "out", format="moca", check=False).folder
    expected = load_tokenizer(source / "tokenizer.json").token_to_id(written) if isinstance(written, str) else written
    assert read_settings(find_checkpoint(out)).mask_token_id == expected


def test_a_head_is_kept_for_who_writes_text_with_it_and_dropped_where_it_is_tied(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m", layout="old")
    for format, tied, kept, kind in (
        ("qwen", False, True, "ForConditionalGeneration"),
        ("sentence-transformers", False, False, "Model"),
        ("qwen", True, False, "ForConditionalGeneration"),
    ):
        rewrite(source / "config.json", tie_word_embeddings=tied)
        out = tmp_path / f"{format}-{tied}"
        export_model(source, out, format=format, check=False)  # type: ignore[arg-type]
        weights = load_file(out / "model.safetensors")
        assert ("lm_head.weight" in weights) is kept
        assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
        assert json.loads((out / "config.json").read_text())["architectures"] == [f"Qwen2_5_VL{kind}"]


def test_large_models_are_written_in_several_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "FILE_BYTES", 200_000)
    out = export_model(source, tmp_path / "out", format="qwen", dtype="float32", check=False).folder
    assert len(list(out.glob("model-*.safetensors"))) > 2
    assert (out / "model.safetensors.index.json").is_file()
    assert far(embed_here(source), embed_here(out)) < 1e-6


def test_no_file_is_hidden_from_other_users(plain: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in plain.iterdir() if path.is_file()}
    assert len(modes) == 1, modes


def test_numbers_that_the_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m")
    weights = load_file(source / "model.safetensors")
    weights["model.visual.merger.ln_q.weight"][0] = 70_000
    save_file(weights, source / "model.safetensors")
    with pytest.raises(ModelError, match=r"float16 cannot hold the numbers of visual\.merger\.ln_q\.weight"):
        export_model(source, tmp_path / "out", format="qwen", dtype="float16", check=False)
    assert export_model(source, tmp_path / "out", format="qwen", dtype="bfloat16", check=False).folder.is_dir()


def test_names_of_foreign_code_stay_behind(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m")
    rewrite(source / "config.json", auto_map={"AutoModel": "theirs.Model"})
    out = export_model(source, tmp_path / "out", format="qwen", check=False).folder
    assert "auto_map" not in (out / "config.json").read_text()


def test_an_adapter_is_merged_into_its_export(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m")
    adapter = write_adapter(tmp_path / "adapter", source, random_pair(QUERY, (64, 64)))
    out = export_model(adapter, tmp_path / "out", format="qwen", dtype="float32", check=False).folder
    assert far(embed_here(adapter), embed_here(out)) < 1e-6
    assert far(embed_here(adapter), embed_here(source)) > 1e-3


# -- what may not happen ----------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_and_an_empty_one_is_taken(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_model(source, tmp_path / "out", check=False)
    before = sorted((tmp_path / "out").rglob("*"))
    for taken in (tmp_path / "out", tmp_path / "out" / "config.json"):
        with pytest.raises(ConfigError, match="is there already: give a folder that is new or empty"):
            export_model(source, taken, check=False)
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_an_interrupted_export_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_write_modules", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_model(source, tmp_path / "out", check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_whole_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = write_small_model(tmp_path / "m", shards=2)
    (source / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks its weights"):
        export_model(source, tmp_path / "out", check=False)
    other = write_small_model(tmp_path / "n")
    (other / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        export_model(other, tmp_path / "out", check=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "n"]


@pytest.mark.parametrize("format", ["sentence-transformers", "qwen"])
def test_a_model_that_leaves_out_blank_cells_is_for_us_alone(tmp_path: Path, format: Format) -> None:
    model = write_small_model(tmp_path / "model")
    (model / "moca.json").write_text(json.dumps({"drop_blank": True}))
    with pytest.raises(ConfigError, match="--format moca"):
        export_model(model, tmp_path / "out", format=format, dtype="float32", check=False)
    assert read_settings(
        find_checkpoint(export_model(model, tmp_path / "out", format="moca", dtype="float32", check=False).folder)
    ).drop_blank
