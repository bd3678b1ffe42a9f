"""Stage two as a whole: pairs in, an embedding model out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from moca_rag.train import cl, loop
from moca_rag.train.cl import cut_chunks
from moca_rag.train.runs import CONFIGS, list_checkpoints, run_cl
from moca_rag.train.settings import RunReport
from safetensors.torch import load_file

from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError
from moca_rag.inputs import TokenSequence
from moca_rag.progress import SilentReporter
from moca_rag.records import Query
from tests.packs import load

SETTINGS = ("batch_size=6", "chunk_tokens=120", "learning_rate=2e-3", "save_steps=1000", "held_out_steps=1000")


def run(model: Path, rows: Path, out: Path, *words: str, config: str = "tiny") -> RunReport:
    chosen = [f"model={model}", f"data={rows}", f"out={out}", *SETTINGS, *words]
    return run_cl(config, chosen, SilentReporter(), "cpu")


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in log(out)]


def test_pairs_are_learnt_by_heart_and_the_model_opens(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    report = run(model, cl_rows, tmp_path, "steps=40", f"held_out={cl_rows}", "keep_last=true")
    told = log(tmp_path)
    assert np.mean([line["accuracy"] for line in told[-8:]]) > 1.5 * np.mean([line["accuracy"] for line in told[:4]])
    assert np.mean(losses(tmp_path)[-8:]) < 0.7 * np.mean(losses(tmp_path)[:4])
    assert report.figures["held_out_accuracy"] > 0
    assert report.checkpoint is not None
    embedder = Embedder.open(report.checkpoint, device="cpu")
    assert embedder.encode_queries([Query("x")]).shape == (1, 64)
    assert not any("lm_head" in name for name in load_file(report.checkpoint / "model.safetensors"))


def test_chunks_change_no_gradient(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    """The gradient's length says it: the losses of a first step are the same anyway."""
    for name, tokens in (("whole", 10**6), ("chunks", 60)):
        run(model, cl_rows, tmp_path / name, "steps=3", f"chunk_tokens={tokens}")
    for key in ("loss", "gradient_norm"):
        whole, chunks = ([line[key] for line in log(tmp_path / name)] for name in ("whole", "chunks"))
        assert whole == pytest.approx(chunks, rel=1e-4)


def test_every_batch_is_of_one_task(
    model: Path, cl_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    real = loop._step

    def watching(*arguments: Any) -> dict[str, float]:
        seen.append(arguments[5].rows)
        return real(*arguments)

    monkeypatch.setattr(loop, "_step", watching)
    run(model, cl_rows, tmp_path / "pure", "steps=12")
    assert all(len({row % 3 for row in rows}) == 1 for rows in seen)
    assert sorted(row for rows in seen[:6] for row in rows) == list(range(24))
    seen.clear()
    run(model, cl_rows, tmp_path / "mixed", "steps=4", "task_aware=false")
    assert any(len({row % 3 for row in rows}) > 1 for rows in seen)


def test_going_on_after_a_pause_is_the_same_run(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "whole", "steps=8", "save_steps=3")

    class Killed(BaseException):
        pass

    real = loop._step

    def killing(*arguments: Any) -> dict[str, float]:
        if arguments[-1] == 4:
            raise Killed
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", killing)
        with pytest.raises(Killed):
            run(model, cl_rows, tmp_path / "short", "steps=8", "save_steps=3")
    run(model, cl_rows, tmp_path / "short", "steps=8", "save_steps=3")
    assert losses(tmp_path / "short") == losses(tmp_path / "whole")
    left, right = (
        load_file(list_checkpoints(tmp_path / name)[-1] / "model.safetensors") for name in ("whole", "short")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_two_processes_are_one(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "one", "steps=3", f"held_out={cl_rows}")
    words = [
        f"model={model}",
        f"data={cl_rows}",
        f"held_out={cl_rows}",
        f"out={tmp_path / 'two'}",
        *SETTINGS,
        "steps=3",
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["moca_rag.train", "cl", "tiny", *words, "--device", "cpu"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for key in ("loss", "gradient_norm", "accuracy"):
        one, two = ([line[key] for line in log(tmp_path / name)] for name in ("one", "two"))
        assert two == pytest.approx(one, rel=1e-3)
    one, two = (log(tmp_path / name)[-1]["held_out_loss"] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-3)


def test_a_run_may_be_made_longer_and_says_so(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "run", "steps=2")
    assert run(model, cl_rows, tmp_path / "run", "steps=4").steps == 4
    assert [line["step"] for line in log(tmp_path / "run")] == [1, 2, 3, 4]
    [longer] = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["longer"]
    assert longer["was"] == {"steps": 2}
    assert yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())["steps"] == 4
    with pytest.raises(ConfigError, match="steps: 4 -> 3"):
        run(model, cl_rows, tmp_path / "run", "steps=3")


def test_smaller_cuts_of_the_embedding_learn_too(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    run(model, cl_rows, tmp_path / "cut", "steps=1", "dimensions=16,32")
    run(model, cl_rows, tmp_path / "whole", "steps=1")
    assert losses(tmp_path / "cut")[0] > losses(tmp_path / "whole")[0]


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "cl").glob("*.yaml")))
def test_every_config_runs_two_steps_at_small_size(name: str, model: Path, cl_rows: Path, tmp_path: Path) -> None:
    report = run(model, cl_rows, tmp_path, "steps=2", config=name)
    assert report.steps == 2
    assert all(np.isfinite(loss) for loss in losses(tmp_path))


def test_chunks_keep_order_and_budget() -> None:
    def make(length: int) -> TokenSequence:
        return TokenSequence(
            np.zeros(length, np.int64), np.zeros((3, length), np.int64), np.zeros((0, 588), np.uint8), ()
        )

    sequences = [make(length) for length in (3, 3, 5, 20, 1)]
    assert [[len(item.ids) for item in chunk] for chunk in cut_chunks(sequences, 7)] == [[3, 3], [5], [20], [1]]


def test_a_crew_of_processes_reads_what_one_reads(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    for number in (0, 2):
        run(model, cl_rows, tmp_path / str(number), "steps=3", f"workers={number}")
    assert losses(tmp_path / "0") == losses(tmp_path / "2")


def test_a_run_needs_nothing_of_the_checkpoint_that_it_went_on_from(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    for steps in (1, 4):
        (tmp_path / "settings.yaml").unlink(missing_ok=True)
        report = run(model, cl_rows, tmp_path, f"steps={steps}", "save_steps=1", "keep=1")
    assert report.checkpoint is not None
    assert Embedder.open(report.checkpoint, device="cpu").encode_queries([Query("x")]).shape == (1, 64)


class FirstWordTeacher:
    """Finds texts alike that begin with the same word."""

    dimension = 32

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.stack([np.eye(32, dtype=np.float32)[sum(map(ord, text.split()[0])) % 32] for text in texts])


def test_a_teacher_draws_texts_together_and_pictures_are_not_asked_for(
    model: Path, cl_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moca_rag.train.tutor.Teacher.open", lambda folder, half: FirstWordTeacher())
    run(model, cl_rows, tmp_path, "steps=36", "teacher=here", "teacher_weight=3.0")
    told = [line["teacher_loss"] for line in log(tmp_path) if "teacher_loss" in line]
    assert 0 < len(told) < 36
    assert np.mean(told[-4:]) < 0.8 * np.mean(told[:4])


def test_frozen_weights_stay_and_a_pattern_without_any_is_refused(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    report = run(model, cl_rows, tmp_path / "run", "steps=2", "frozen=[visual.*, language_model.embed_tokens.*]")
    assert report.checkpoint is not None
    before, after = (load(folder).state_dict() for folder in (model, report.checkpoint))
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved and not any("visual" in name or "embed_tokens" in name for name in moved)
    with pytest.raises(ConfigError, match="no weight is called so"):
        run(model, cl_rows, tmp_path / "none", "steps=2", "frozen=[tower.*]")


def test_pages_learn_by_their_regions_and_chunks_change_no_gradient(
    model: Path, cl_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, cl_rows, tmp_path / "one", "steps=3")
    real, seen = cl.info_nce, []

    def watching(queries: torch.Tensor, documents: torch.Tensor, *rest: Any, **rules: Any) -> torch.Tensor:
        seen.append(documents.detach())
        return real(queries, documents, *rest, **rules)

    monkeypatch.setattr(cl, "info_nce", watching)
    for name, tokens in (("whole", 10**6), ("chunks", 60)):
        report = run(
            model, cl_rows, tmp_path / name, "steps=3", f"chunk_tokens={tokens}", f"held_out={cl_rows}", "regions=3"
        )
    for key in ("loss", "gradient_norm"):
        whole, chunks = ([line[key] for line in log(tmp_path / name)] for name in ("whole", "chunks"))
        assert whole == pytest.approx(chunks, rel=1e-4)
    assert all(documents.shape[1:] == (3, 64) for documents in seen)
    assert any((documents[:, 0] != documents[:, 2]).any() for documents in seen)
    assert losses(tmp_path / "one") != losses(tmp_path / "whole")
    assert report.checkpoint is not None
    assert Embedder.open(report.checkpoint, device="cpu").card.regions == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["regions=65"], "regions=65: give 1 to 64"),
        (["regions=-1"], "regions=-1: give 1 to 64"),
        (["regions=2", "bidirectional=false"], "a causal model has one embedding a page"),
    ],
)
def test_regions_that_a_model_cannot_have_are_refused(
    words: list[str], complaint: str, model: Path, cl_rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run(model, cl_rows, tmp_path, "steps=2", *words)


def test_a_checkpoint_that_has_regions_goes_on_with_them(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    first = run(model, cl_rows, tmp_path / "first", "steps=2", "regions=3").checkpoint
    assert first is not None
    second = run(first, cl_rows, tmp_path / "second", "steps=2").checkpoint
    third = run(first, cl_rows, tmp_path / "third", "steps=2", "regions=1").checkpoint
    causal = run(first, cl_rows, tmp_path / "causal", "steps=2", "bidirectional=false").checkpoint
    found = [Embedder.open(folder, device="cpu").card.regions for folder in (first, second, third, causal) if folder]
    assert found == [3, 3, 1, 1]
