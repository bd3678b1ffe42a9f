"""Adapters: found with their base, merged as peft merges them, refused when they are more than plain LoRA."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from moca_rag.checkpoint import find_checkpoint, read_card, read_settings
from moca_rag.embedder import Embedder
from moca_rag.errors import ModelError
from moca_rag.records import Query
from moca_rag.weights import read_weights
from tests.small_adapter import PATCHES, PREFIX, QUERY, bare, random_pair, stored_tensors, write_adapter
from tests.small_model import write_small_model

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAIR = random_pair(QUERY, (64, 64))
A, B = PAIR


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def stored(base: Path) -> dict[str, Tensor]:
    return stored_tensors(base)


def merged(adapter: Path, expected: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return read_weights(find_checkpoint(adapter), expected, CPU, dtype)


LANGUAGE = ["q_proj", "v_proj", "language_model.layers.1.mlp.down_proj"]
PEFT_VARIANTS: dict[str, dict[str, Any]] = {
    "language": {"r": 4, "lora_alpha": 8, "target_modules": LANGUAGE},
    "vision": {"r": 4, "lora_alpha": 6, "target_modules": ["qkv", "proj", "merger.mlp.0"]},
    "all linear": {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"},
    "rank-stabilised": {"r": 4, "lora_alpha": 8, "target_modules": [*LANGUAGE, "qkv"], "use_rslora": True},
    "by pattern": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [*LANGUAGE, "qkv", "attn.proj"],
        "rank_pattern": {"v_proj": 2, r"visual\.blocks\.[01]\.attn\.qkv": 8},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 3, "proj": 1, r"^model\.visual\..*\.qkv": 5},
    },
    "trained whole": {"r": 4, "target_modules": LANGUAGE, "modules_to_save": ["norm", "lm_head", "merger.mlp.2"]},
    "with embeddings": {"r": 4, "target_modules": LANGUAGE, "modules_to_save": ["embed_tokens"]},
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("layout", ["new", "old"])
@pytest.mark.parametrize("variant", PEFT_VARIANTS)
def test_an_adapter_is_merged_as_peft_merges_it(variant: str, layout: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = write_small_model(tmp_path / "base", layout=layout)
    before = stored_tensors(folder)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=False, **PEFT_VARIANTS[variant]))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "modules_to_save" in name:
                weight.add_(torch.randn_like(weight))
    wrapped.save_pretrained(tmp_path / "adapter")
    after = {key.removeprefix("model."): weight for key, weight in wrapped.merge_and_unload().state_dict().items()}
    got = merged(tmp_path / "adapter", before)
    torch.testing.assert_close(got, {name: after[name] for name in before}, atol=1e-6, rtol=0)
    assert sum(not torch.equal(got[name], before[name]) for name in before) >= 5


@pytest.mark.parametrize("prefix", ["base_model.model.model.", "base_model.model.", "model.", ""])
def test_a_weight_gains_alpha_over_rank_times_the_product_under_any_prefix(
    prefix: str, base: Path, stored: dict[str, Tensor], tmp_path: Path
) -> None:
    pair = {key.replace(PREFIX, prefix): factor for key, factor in PAIR.items()}
    got = merged(write_adapter(tmp_path, base, pair), stored)
    expected = stored[QUERY + ".weight"] + 3 / 2 * PAIR[B] @ PAIR[A]
    torch.testing.assert_close(got.pop(QUERY + ".weight"), expected)
    torch.testing.assert_close(got, {name: stored[name] for name in got}, atol=0, rtol=0)


def test_keys_from_before_the_layouts_changed_are_read(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    today = PAIR | random_pair("visual.blocks.0.attn.qkv", (96, 32))
    old = {
        key.replace("model.language_model.", "model.").replace("model.visual.", "visual."): today[key] for key in today
    }
    first, second = (write_adapter(tmp_path / name, base, pair) for name, pair in (("new", today), ("old", old)))
    assert set(load_file(first / "adapter_model.safetensors")).isdisjoint(
        load_file(second / "adapter_model.safetensors")
    )
    torch.testing.assert_close(merged(first, stored), merged(second, stored), atol=0, rtol=0)


def test_the_patch_kernel_is_changed_as_one_matrix(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    kernel = stored[PATCHES + ".weight"]
    pair = random_pair(PATCHES, tuple(kernel.shape))
    a, b = pair.values()
    got = merged(write_adapter(tmp_path, base, pair, use_rslora=True), stored)[PATCHES + ".weight"]
    expected = kernel + 3 / math.sqrt(2) * torch.einsum("or,rcthw->octhw", b.flatten(1), a)
    torch.testing.assert_close(got, expected)


def test_the_sum_is_rounded_once_and_after_the_change(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, base, {key: (factor * 0.05).bfloat16() for key, factor in PAIR.items()})
    a, b = (load_file(adapter / "adapter_model.safetensors")[key].float() for key in (A, B))
    weight, change = stored[QUERY + ".weight"], 3 / 2 * b @ a
    expected = (weight + change).bfloat16()
    assert not torch.equal(expected, weight.bfloat16() + change.bfloat16())
    assert torch.equal(merged(adapter, stored, torch.bfloat16)[QUERY + ".weight"], expected)


def test_only_the_part_that_is_asked_for_is_merged(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    broken = {key: factor * torch.nan for key, factor in random_pair("visual.blocks.0.attn.qkv", (96, 32)).items()}
    adapter = write_adapter(tmp_path, base, PAIR | broken)
    text, tower = ({name: stored[name] for name in stored if name.startswith(part)} for part in ("lang", "vis"))
    assert not torch.equal(merged(adapter, text)[QUERY + ".weight"], stored[QUERY + ".weight"])
    with pytest.raises(ModelError, match=r"qkv\.lora_A\.weight holds NaN"):
        merged(adapter, tower)
    torch.testing.assert_close(merged(write_adapter(tmp_path, base, PAIR), tower), tower, atol=0, rtol=0)


def test_the_language_head_of_an_adapter_is_passed_over(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    head = {
        "base_model.model.lm_head.lora_A.weight": torch.ones(9, 9),
        "base_model.model.lm_head.weight": torch.ones(3),
    }
    torch.testing.assert_close(merged(write_adapter(tmp_path, base, head), stored), stored, atol=0, rtol=0)


def test_an_adapter_embeds_as_the_merged_model_does(base: Path, stored: dict[str, Tensor], tmp_path: Path) -> None:
    pairs = PAIR | random_pair("visual.blocks.0.attn.qkv", (96, 32))
    adapter = write_adapter(tmp_path / "adapter", base, pairs)
    whole = write_small_model(tmp_path / "whole")
    save_file(
        {"model." + name: weight for name, weight in merged(adapter, stored).items()}, whole / "model.safetensors"
    )
    page = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    rows = []
    for folder in (adapter, whole, base):
        embedder = Embedder.open(folder, device="cpu")
        rows.append(np.stack([*embedder.encode_queries([Query("copper")]), *embedder.encode_pages([page])]))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert np.abs(rows[0] - rows[2]).max(axis=1).min() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type='LOHA' is not read here: merge it with peft first"),
        ({"peft_type": None}, "peft_type=None"),
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"trainable_token_indices": [1]}, r"trainable_token_indices=\[1\]"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"an_invention_of_tomorrow": {"x": 1}}, "an_invention_of_tomorrow="),
        ({"r": 0}, "r 0 is no number above 0"),
        ({"lora_alpha": "8"}, "lora_alpha '8' is no number above 0"),
        ({"alpha_pattern": {"q_proj": None}}, "lora_alpha None is no number"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern holds no patterns"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern holds no patterns"),
        ({"rank_pattern": {"q_proj": 4}}, r"has shape \[2, 64\] where adapter_config\.json asks for \[4, 64\]"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_by_its_option(
    options: dict[str, Any], message: str, base: Path, stored: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        merged(write_adapter(tmp_path, base, PAIR, **options), stored)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({A: PAIR[A]}, r"q_proj\.lora_A\.weight lacks its other half"),
        ({B: PAIR[B]}, r"q_proj\.lora_B\.weight lacks its other half"),
        ({A: torch.ones(2, 63), B: PAIR[B]}, r"lora_A\.weight has shape \[2, 63\]"),
        ({A: PAIR[A], B: torch.ones(63, 2)}, r"lora_B\.weight has shape \[63, 2\]"),
        ({A: PAIR[A], B: torch.ones(64, 3)}, r"has shape \[64, 3\] where adapter_config\.json asks for \[64, 2\]"),
        ({A: torch.empty(0), B: torch.empty(0)}, r"lora_A\.weight has shape \[0\]"),
        ({A: PAIR[A] * torch.inf, B: PAIR[B]}, r"lora_A\.weight holds NaN or infinite"),
        ({A: PAIR[A].to(torch.int8), B: PAIR[B]}, r"stored as torch\.int8"),
        (
            random_pair("language_model.layers.7.mlp.up_proj", (128, 64)),
            r"layers\.7\.mlp.* what the base does not have",
        ),
        (random_pair("custom_text_proj", (128, 64)), r"custom_text_proj.*the adapter is of another model"),
        (PAIR | {PREFIX + QUERY + ".lora_magnitude_vector": torch.ones(64)}, "lora_magnitude_vector is no plain LoRA"),
        ({PREFIX + "language_model.embed_tokens.lora_embedding_A": torch.ones(2, 512)}, "embedding_A is no plain LoRA"),
        ({PREFIX + "language_model.norm.weight": torch.ones(9)}, r"norm\.weight has shape \[9\]"),
        ({PREFIX + "language_model.norm.bias": torch.ones(64)}, r"norm\.bias changes what the base does not have"),
    ],
)
def test_tensors_that_do_not_belong_are_refused_by_name(
    tensors: dict[str, Tensor], message: str, base: Path, stored: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        merged(write_adapter(tmp_path, base, tensors), stored)
    assert "\n" not in str(caught.value)


def test_an_adapter_brings_its_base_from_any_place(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "near").symlink_to(base)
    (tmp_path / "far").symlink_to(base)
    monkeypatch.chdir(tmp_path / "here")
    revisions = set()
    for name in (str(base), "../far", "near"):
        adapter = write_adapter(tmp_path / "adapter", name, PAIR)
        found = find_checkpoint(adapter)
        assert (found.name, found.adapter) == (str(adapter), adapter)
        assert found.folder.samefile(base)
        revisions.add(found.revision)
    assert len(revisions) == 1


def test_the_revision_covers_the_adapter_and_its_base(tmp_path: Path) -> None:
    base = write_small_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base, PAIR)
    seen = {find_checkpoint(base).revision, find_checkpoint(adapter).revision}
    write_adapter(adapter, base, {key: factor * 2 for key, factor in PAIR.items()})
    seen.add(find_checkpoint(adapter).revision)
    write_adapter(adapter, base, PAIR, lora_alpha=4)
    seen.add(find_checkpoint(adapter).revision)
    write_small_model(base, seed=1)
    seen.add(find_checkpoint(adapter).revision)
    (adapter / "moca.json").write_text('{"query_prompt": "Q"}')
    seen.add(find_checkpoint(adapter).revision)
    assert len(seen) == 6


def cached(cache: Path, name: str) -> Path:
    """The folder of a snapshot in the hub's cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_adapter_and_base_come_from_the_hubs_cache(hub_cache: Path) -> None:
    base = write_small_model(cached(hub_cache, "maker/base"))
    adapter = write_adapter(cached(hub_cache, "someone/adapter"), "maker/base", PAIR, revision="main")
    found = find_checkpoint("someone/adapter")
    assert found.name == "someone/adapter" and found.adapter is not None
    assert found.folder.samefile(base) and found.adapter.samefile(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no whole copy of it in the hub cache"):
        find_checkpoint("someone/adapter")


def test_a_base_of_another_revision_is_not_taken(hub_cache: Path, tmp_path: Path) -> None:
    write_small_model(cached(hub_cache, "maker/base"))
    find_checkpoint(write_adapter(tmp_path / "adapter", "maker/base", PAIR, revision=COMMIT))
    with pytest.raises(ModelError, match=f"trained on revision 'v1' of maker/base, not on {COMMIT}: fetch that one"):
        find_checkpoint(write_adapter(tmp_path / "adapter", "maker/base", PAIR, revision="v1"))


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "the base model /no/such/folder cannot be had: no model folder at /no/such/folder"),
        ("maker/unknown", "the base model maker/unknown cannot be had: .*hf download maker/unknown"),
        ("", "base_model_name_or_path '' names no model"),
        (".", "the base model . is an adapter itself: merge that with peft first"),
    ],
)
def test_a_base_that_cannot_be_had_is_named_with_its_adapter(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=rf"adapter_config\.json: {message}") as caught:
        find_checkpoint(write_adapter(tmp_path, "", PAIR, base_model_name_or_path=name))
    assert "\n" not in str(caught.value)


def test_pickled_adapters_are_never_opened(base: Path, tmp_path: Path) -> None:
    (write_adapter(tmp_path, base, PAIR) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled, which can run code"):
        find_checkpoint(tmp_path)


def test_the_adapters_own_tokenizer_and_settings_go_before_its_bases(tmp_path: Path) -> None:
    base = write_small_model(tmp_path / "base")
    (base / "moca.json").write_text('{"query_prompt": "base"}')
    adapter = write_adapter(tmp_path / "adapter", base, PAIR)
    found = find_checkpoint(adapter)
    assert (found.file("tokenizer.json"), read_settings(found).query_prompt) == (base / "tokenizer.json", "base")
    for name, text in (("tokenizer.json", "{}"), ("moca.json", '{"query_prompt": "adapter"}')):
        (adapter / name).write_text(text)
    assert (found.file("tokenizer.json"), read_settings(found).query_prompt) == (adapter / "tokenizer.json", "adapter")
    assert bare(base).file("tokenizer.json") == base / "tokenizer.json"


def test_the_card_of_an_adapter_is_read_without_loading_torch(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, base, PAIR)
    program = (
        "import sys; from moca_rag.checkpoint import read_card; print(read_card(sys.argv[1]), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(adapter)], capture_output=True, text=True, check=True)
    card = read_card(adapter)
    assert answer.stdout.strip() == f"{card} False"
    assert (card.name, card.dimension) == (str(adapter), 64)
