"""Stage two with LoRA: few numbers are trained, and what is written opens as a model and as an adapter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from moca_rag.train import loop
from moca_rag.train.lora import LoraLinear, add_lora, split_lora
from moca_rag.train.runs import list_checkpoints, run_cl
from moca_rag.train.settings import ClSettings, RunReport
from safetensors.torch import load_file
from torch import nn

from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError
from moca_rag.products import Linear
from moca_rag.progress import SilentReporter
from moca_rag.records import Query
from tests.small_adapter import stored_tensors

SETTINGS = ("batch_size=6", "chunk_tokens=120", "learning_rate=1e-2", "save_steps=1000", "held_out_steps=1000")
LORA = ("lora_rank=4", "lora_alpha=6")


def words(model: Path, rows: Path, out: Path, *more: str) -> list[str]:
    return [f"model={model}", f"data={rows}", f"out={out}", *SETTINGS, *LORA, *more]


def run(model: Path, rows: Path, out: Path, *more: str) -> RunReport:
    return run_cl("tiny", words(model, rows, out, *more), SilentReporter(), "cpu")


def log(out: Path, key: str) -> list[float]:
    return [json.loads(line)[key] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def learnt(model: Path, cl_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run whose factors stand in both parts of the model."""
    out = tmp_path_factory.mktemp("lora")
    targets = "lora_targets=language_model.*_proj,visual.blocks.*,visual.merger.*"
    report = run(model, cl_rows, out, "steps=30", targets)
    assert report.checkpoint is not None
    assert np.mean(log(out, "loss")[-6:]) < 0.8 * np.mean(log(out, "loss")[:4])
    return report.checkpoint


def embed(model: Path) -> np.ndarray:
    embedder = Embedder.open(model, device="cpu")
    page = np.random.default_rng(0).integers(0, 256, (112, 84, 3), dtype=np.uint8)
    queries = embedder.encode_queries([Query("copper and bridges"), Query("a chart", page)])
    return np.stack([*queries, *embedder.encode_pages([page])])


def test_the_adapter_gives_the_embeddings_of_the_merged_model(model: Path, learnt: Path) -> None:
    merged, adapter = embed(learnt), embed(learnt / "adapter")
    assert np.abs(merged - adapter).max() < 1e-5
    assert np.abs(merged - embed(model)).max() > 1e-2


def test_only_the_named_layers_move(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    report = run(model, cl_rows, tmp_path, "steps=2")
    assert report.checkpoint is not None
    before, after = stored_tensors(model), stored_tensors(report.checkpoint)
    moved = {name for name in before if not torch.equal(before[name].float(), after[name])}
    named = {name for name in before if name.startswith("language_model.") and name.endswith("_proj.weight")}
    assert moved == named and len(moved) == 14
    moments = load_file(report.checkpoint / "training" / "moments-00001.safetensors")
    assert len(moments) == 2 * 2 * len(named) and all("lora_" in name for name in moments)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_loads_the_adapter(model: Path, learnt: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import Qwen2_5_VLForConditionalGeneration

    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    whole = peft.PeftModel.from_pretrained(base, learnt / "adapter").merge_and_unload().state_dict()
    ours = stored_tensors(learnt)
    torch.testing.assert_close({name: whole[f"model.{name}"] for name in ours}, ours, atol=1e-6, rtol=0)


def test_going_on_starts_from_the_base_and_is_the_same_run(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "whole", "steps=6", "save_steps=2")

    class Killed(BaseException):
        pass

    real = loop._step

    def killing(*arguments: object) -> dict[str, float]:
        if arguments[-1] == 3:
            raise Killed
        return real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", killing)
        with pytest.raises(Killed):
            run(model, cl_rows, tmp_path / "short", "steps=6", "save_steps=2")
    run(model, cl_rows, tmp_path / "short", "steps=6", "save_steps=2")
    assert log(tmp_path / "short", "loss") == log(tmp_path / "whole", "loss")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        whole, short = (load_file(list_checkpoints(tmp_path / run)[-1] / name) for run in ("whole", "short"))
        assert all(torch.equal(whole[key], short[key]) for key in whole)


def test_two_processes_are_one(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "one", "steps=3")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["moca_rag.train", "cl", "tiny", *words(model, cl_rows, tmp_path / "two", "steps=3"), "--device", "cpu"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for key in ("loss", "gradient_norm"):
        assert log(tmp_path / "two", key) == pytest.approx(log(tmp_path / "one", key), rel=1e-3)
    one, two = (embed(list_checkpoints(tmp_path / name)[-1]) for name in ("one", "two"))
    assert np.abs(one - two).max() < 1e-3


def test_a_factored_layer_computes_what_its_merged_weight_does() -> None:
    settings = ClSettings(lora_rank=2, lora_alpha=3.0, lora_targets=("up",))
    model = nn.ModuleDict({"up": Linear(5, 7), "down": Linear(7, 5)})
    plain = {name: weight.clone() for name, weight in model.state_dict().items()}
    states = torch.randn(4, 5)
    before = model["up"](states)
    add_lora(model, settings)
    layer = model["up"]
    assert isinstance(layer, LoraLinear) and not isinstance(model["down"], LoraLinear)
    assert torch.equal(layer(states), before)
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == {"up.lora_A", "up.lora_B"}
    with torch.no_grad():
        layer.lora_B.normal_()
    expected = plain["up.weight"] + 1.5 * layer.lora_B @ layer.lora_A
    merged, factors = split_lora(model.state_dict(), settings)
    assert set(factors) == {"up.lora_A", "up.lora_B"} and set(merged) == set(plain)
    torch.testing.assert_close(merged["up.weight"], expected)
    torch.testing.assert_close(layer(states), nn.functional.linear(states, expected, plain["up.bias"]))


def test_what_cannot_be_trained_so_is_refused(model: Path, cl_rows: Path, tmp_path: Path, learnt: Path) -> None:
    for number, (more, complaint) in enumerate(
        (
            (("lora_rank=-1",), "lora_rank=-1"),
            (("lora_alpha=0",), "lora_alpha=0.0"),
            (("lora_targets=q_proj",), "no linear layer is named 'q_proj'"),
            ((f"model={learnt / 'adapter'}",), "is an adapter itself"),
        )
    ):
        with pytest.raises(ConfigError, match=complaint):
            run(model, cl_rows, tmp_path / str(number), "steps=1", *more)
    run(model, cl_rows, tmp_path / "begun", "steps=1")
    with pytest.raises(ConfigError, match="go on with the lora_rank"):
        run(model, cl_rows, tmp_path / "begun", "steps=1", "lora_rank=2")
    with pytest.raises(ConfigError, match="begun with other settings"):
        run(model, cl_rows, tmp_path / "begun", "steps=1", "lora_rank=0")
