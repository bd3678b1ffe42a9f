"""Stage one as a whole: from rows to a checkpoint that opens anywhere, through pauses, faults and two processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from moca_rag.train import loop, runs
from moca_rag.train.cpt import open_stage
from moca_rag.train.loop import TrainingError
from moca_rag.train.ranks import Ranks
from moca_rag.train.rows import IMAGE_SLOT
from moca_rag.train.runs import CONFIGS, find_config, run_cpt
from moca_rag.train.settings import CptSettings, RunReport, Source
from PIL import Image
from safetensors.torch import load_file

from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError, MocaError
from moca_rag.export import publish_name
from moca_rag.pixels import PIXEL_MEAN, PIXEL_STD
from moca_rag.progress import SilentReporter
from moca_rag.records import Query

SETTINGS = ("batch_tokens=600", "pack_tokens=250", "learning_rate=3e-3", "save_steps=1000", "held_out_steps=1000")


def run(model: Path, rows: Path, out: Path, *words: str, config: str = "tiny") -> RunReport:
    chosen = [f"model={model}", f"data={rows}", f"out={out}", *SETTINGS, *words]
    return run_cpt(config, chosen, SilentReporter(), "cpu")


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in log(out)]


def weights(report: RunReport) -> dict[str, torch.Tensor]:
    assert report.checkpoint is not None
    return load_file(report.checkpoint / "model.safetensors")


def test_a_run_leaves_a_model_that_opens_like_any_other(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    report = run(model, cpt_rows, tmp_path, "steps=3", f"held_out={cpt_rows}")
    assert (report.steps, report.num_steps) == (3, 3)
    assert report.checkpoint is not None
    before, after = (Embedder.open(folder, device="cpu") for folder in (model, report.checkpoint))
    assert np.abs(before.encode_queries([Query("x")]) - after.encode_queries([Query("x")])).max() > 1e-4
    page = np.full((112, 112, 3), 200, np.uint8)
    assert np.abs(next(before.encode_pages([page])) - next(after.encode_pages([page]))).max() > 1e-4
    config = json.loads((report.checkpoint / "config.json").read_text())
    assert config["text_config"]["is_causal"] is False
    names = set(load_file(report.checkpoint / "model.safetensors"))
    assert "lm_head.weight" in names
    assert not any("mae" in name for name in names)
    assert {"loss", "mlm_loss", "mae_loss", "masked_accuracy", "gradient_norm", "tokens"} <= set(log(tmp_path)[0])
    assert "held_out_loss" in report.figures


def test_patches_are_guessed_to_have_the_pictures_colour_at_first(model: Path, tmp_path: Path) -> None:
    """Weights would else have to tell all states how bright paper is, a vector longer than anything they know."""
    (tmp_path / "images").mkdir()
    for number, colour in enumerate([(255, 255, 255), (255, 155, 55)]):
        Image.new("RGB", (56, 56), colour).save(tmp_path / "images" / f"{number}.png")
    rows = [{"text": f"{IMAGE_SLOT} Paper {number}", "images": [f"{number}.png"]} for number in range(2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"text": "No picture", "images": []}])))
    table = Source(path=str(tmp_path / "rows.jsonl"))
    stage = open_stage(CptSettings(model=str(model), data=(table,)), Ranks(0, 1, torch.device("cpu"), None))
    first = stage.module.mae_proj.bias.view(4, 3, -1)
    wanted = (torch.tensor([255, 205, 155]) / 255 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    assert torch.allclose(first, wanted[:, None].expand_as(first), atol=1e-5)


def test_the_loss_falls(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path, "steps=40", "warmup=0.1", f"held_out={cpt_rows}", "held_out_steps=20")
    told = losses(tmp_path)
    assert np.mean(told[-5:]) < 0.8 * np.mean(told[:5])


def test_going_on_after_a_pause_is_the_same_run_bit_for_bit(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    whole = run(model, cpt_rows, tmp_path / "whole", "steps=6")
    short = tmp_path / "short"
    run_part(model, cpt_rows, short, stop_after=2)
    assert [line["step"] for line in log(short)] == [1, 2]
    rest = run(model, cpt_rows, short, "steps=6")
    assert losses(short) == losses(tmp_path / "whole")
    left, right = weights(whole), weights(rest)
    assert all(torch.equal(left[name], right[name]) for name in left)


def run_part(model: Path, rows: Path, out: Path, stop_after: int) -> None:
    """A run that gets SIGTERM during its step `stop_after`."""
    real = loop._step

    def stopping(*arguments: Any) -> dict[str, float]:
        figures = real(*arguments)
        if arguments[-1] + 1 == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", stopping)
        run(model, rows, out, "steps=6")


def test_a_signal_saves_and_is_given_back(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_part(model, cpt_rows, tmp_path, stop_after=1)
    assert [path.name for path in runs.list_checkpoints(tmp_path)] == ["step-00000001"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_killed_run_goes_on_from_its_last_checkpoint(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(model, cpt_rows, whole, "steps=5", "save_steps=2")

    class Killed(BaseException):
        pass

    real = loop._step

    def killing(*arguments: Any) -> dict[str, float]:
        if arguments[-1] == 3:
            raise Killed
        return real(*arguments)

    short = tmp_path / "short"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", killing)
        with pytest.raises(Killed):
            run(model, cpt_rows, short, "steps=5", "save_steps=2")
    assert [line["step"] for line in log(short)] == [1, 2, 3]
    with (short / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # torn by a power cut
    run(model, cpt_rows, short, "steps=5", "save_steps=2")
    assert losses(short) == losses(whole)
    assert [line["step"] for line in log(short)] == [1, 2, 3, 4, 5]


def test_only_the_newest_checkpoints_are_kept(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path, "steps=5", "save_steps=1", "keep=2")
    assert [path.name for path in runs.list_checkpoints(tmp_path)] == ["step-00000004", "step-00000005"]


def test_packs_of_another_size_give_the_same_losses(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path / "few", "steps=4", "pack_tokens=100000")
    run(model, cpt_rows, tmp_path / "many", "steps=4", "pack_tokens=1")
    assert losses(tmp_path / "few") == pytest.approx(losses(tmp_path / "many"), rel=1e-4)


def test_two_processes_are_one(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    every = ["steps=3", "save_steps=1", "keep=3"]
    run(model, cpt_rows, tmp_path / "one", *every)
    words = [f"model={model}", f"data={cpt_rows}", f"out={tmp_path / 'two'}", *SETTINGS, *every]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["moca_rag.train", "cpt", "tiny", *words, "--device", "cpu"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    moments, weights = (
        [load_file(tmp_path / name / "checkpoints" / path) for name in ("two", "one")]
        for path in ("step-00000001/training/moments-00001.safetensors", "step-00000003/model.safetensors")
    )
    assert set(weights[0]) == set(weights[1])
    for name, moment in moments[1].items():  # sums of gradients, and of their squares
        torch.testing.assert_close(moments[0][name], moment, atol=1e-4 * float(moment.abs().max()), rtol=0)
        _, inner = name.split(".", 1)
        published = publish_name(inner.removeprefix("backbone.")) + ("" if inner != "lm_head" else ".weight")
        if name.startswith("exp_avg.") and published in weights[1]:
            error = (weights[0][published] - weights[1][published]).abs()
            assert error.ndim < 2 or error.mean() < 1e-4  # a step is 3e-3
            # Adam steps as far where a gradient is nothing but rounding.
            assert not (error > 1e-3)[moment.abs() > 1e-3 * moment.abs().max()].any()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_rows(
    model: Path, cpt_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.nn.utils.clip_grad_norm_
    calls: list[int] = []

    def broken(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return torch.tensor(float("nan")) if len(calls) == 3 else real(*arguments)

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", broken)
    with pytest.raises(TrainingError, match=r"step 3 gave .* nan over \d+ rows \(rows row \d+"):
        run(model, cpt_rows, tmp_path, "steps=6", "save_steps=2")
    assert [path.name for path in runs.list_checkpoints(tmp_path)] == ["step-00000002"]


def test_a_full_disk_keeps_the_checkpoints_before(
    model: Path, cpt_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moca_rag.train.checkpoints import Draft

    real = Draft.write_state

    def full(self: Draft, state: Any) -> None:
        if state["step"] > 2:
            raise OSError(28, "No space left on device")
        real(self, state)

    monkeypatch.setattr(Draft, "write_state", full)
    with pytest.raises(TrainingError, match=r"step 4 could not be saved .*No space left"):
        run(model, cpt_rows, tmp_path, "steps=6", "save_steps=2")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_run_is_gone_on_with_its_own_settings_only(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path, "steps=2")
    with pytest.raises(ConfigError, match=r"mae_weight: 0\.5 -> 0\.1"):
        run(model, cpt_rows, tmp_path, "steps=2", "mae_weight=0.1")
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({"text": f"another {number}"}) for number in range(9)))
    with pytest.raises(ConfigError, match="the data are others"):
        run(model, other, tmp_path, "steps=2")
    settings = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert (settings["steps"], settings["mae_weight"], settings["data"][0]["path"]) == (2, 0.5, str(cpt_rows))
    record = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert record["packages"]["torch"] == torch.__version__


def test_rows_that_cannot_be_read_are_passed_over_up_to_a_limit(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    lines = cpt_rows.read_text().splitlines()
    lines[3] = json.dumps({"text": "a picture that is not there", "images": ["gone.png"]})
    lines[5] = "{broken"
    broken = cpt_rows.with_name("broken.jsonl")
    broken.write_text("\n".join(lines))
    run(model, broken, tmp_path / "some", "steps=4", "max_bad_rows=2")
    with pytest.raises(MocaError, match="rows cannot be read"):
        run(model, broken, tmp_path / "none", "steps=8", "max_bad_rows=1")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "cpt").glob("*.yaml")))
def test_every_config_runs_two_steps_at_small_size(name: str, model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    report = run(model, cpt_rows, tmp_path, "steps=2", config=name)
    assert report.steps == 2
    assert all(np.isfinite(loss) for loss in losses(tmp_path))


def test_an_unknown_config_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'paper3b' of stage cpt: give a \.yaml file or one of .*paper-3b.*tiny"):
        find_config("paper3b", "cpt")


def test_what_is_missing_is_asked_for(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    for words, message in (
        ([f"data={cpt_rows}", f"out={tmp_path}"], "model=FOLDER_OR_HUB_ID"),
        ([f"model={model}", f"out={tmp_path}"], "data=FILE"),
        ([f"model={model}", f"data={cpt_rows}"], "out=FOLDER"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_cpt("tiny", words, SilentReporter(), "cpu")


def test_recomputing_states_changes_nothing(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path / "kept", "steps=3")
    run(model, cpt_rows, tmp_path / "again", "steps=3", "recompute=true")
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "kept"), rel=1e-6)


def test_what_a_known_device_could_do_is_set_beside_what_it_does(
    model: Path, cpt_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    reporter = SilentReporter()
    monkeypatch.setattr(reporter, "say", told.append)
    words = [f"model={model}", f"data={cpt_rows}", *SETTINGS, "steps=1"]
    run_cpt("tiny", [*words, f"out={tmp_path / 'unknown'}"], reporter, "cpu")
    monkeypatch.setattr(Ranks, "peak", 2.0)
    run_cpt("tiny", [*words, f"out={tmp_path / 'known'}"], reporter, "cpu")
    (unknown,), (known,) = log(tmp_path / "unknown"), log(tmp_path / "known")
    assert "mfu" not in unknown
    assert known["mfu"] == pytest.approx(known["teraflops"] / 2)
    assert ["MFU" in line for line in told if "step 1 of 1" in line] == [False, True]
    assert all(line.endswith("0:00:00 left") for line in told if "step 1 of 1" in line)


def test_half_products_learn_nearly_the_same_and_keep_whole_weights(
    model: Path, cpt_rows: Path, tmp_path: Path
) -> None:
    whole, half = (
        run(model, cpt_rows, tmp_path / name, "steps=3", "max_tokens=300", *words)
        for name, words in (("whole", ()), ("half", ("half=true",)))
    )
    assert losses(tmp_path / "half") != losses(tmp_path / "whole")
    np.testing.assert_allclose(losses(tmp_path / "half"), losses(tmp_path / "whole"), rtol=0.02)
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}
    assert weights(whole).keys() == weights(half).keys()


def test_a_crew_of_processes_reads_what_one_reads(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = cpt_rows.read_text().splitlines()
    rows.write_text("\n".join([*lines[:10], '{"text": "", "images": ["gone.png"]}', *lines[10:]]))
    (tmp_path / "images").symlink_to(cpt_rows.parent / "images")
    for number in (0, 2):
        run(model, rows, tmp_path / str(number), "steps=4", f"workers={number}", "max_bad_rows=1")
    assert losses(tmp_path / "0") == losses(tmp_path / "2")
    with pytest.raises(MocaError, match="1 rows cannot be read"):
        run(model, rows, tmp_path / "strict", "steps=4", "workers=1", "max_bad_rows=0")


def test_files_of_a_checkpoint_stay_small_and_a_run_goes_on_from_them(
    model: Path, cpt_rows: Path, tmp_path: Path
) -> None:
    large = run(model, cpt_rows, tmp_path / "large", "steps=2").checkpoint
    for steps in (1, 2):
        (tmp_path / "small" / "settings.yaml").unlink(missing_ok=True)
        report = run(model, cpt_rows, tmp_path / "small", f"steps={steps}", "warmup=1.0", "file_mb=1")
    assert report.checkpoint is not None and large is not None
    sizes = [path.stat().st_size for path in report.checkpoint.rglob("*.safetensors")]
    assert len(sizes) > len(list(large.rglob("*.safetensors")))
    assert max(sizes) < 1.3e6  # the largest tensor
    assert Embedder.open(report.checkpoint, device="cpu").encode_queries([Query("x")]).shape == (1, 64)
    assert log(tmp_path / "small")[0]["loss"] == log(tmp_path / "large")[0]["loss"]


def test_a_run_needs_nothing_of_the_checkpoint_that_it_went_on_from(
    model: Path, cpt_rows: Path, tmp_path: Path
) -> None:
    for steps in (1, 5):
        (tmp_path / "settings.yaml").unlink(missing_ok=True)
        report = run(model, cpt_rows, tmp_path, f"steps={steps}", "save_steps=1", "keep=1", "workers=1")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert report.checkpoint is not None
    assert Embedder.open(report.checkpoint, device="cpu").encode_queries([Query("x")]).shape == (1, 64)


def test_a_finished_run_says_so_again_and_does_nothing(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    first, again = (run(model, cpt_rows, tmp_path, "steps=2") for _ in range(2))
    assert (again.steps, again.num_steps, again.checkpoint) == (2, 2, first.checkpoint)
    assert again.figures["loss"] == first.figures["loss"]
    assert len(log(tmp_path)) == 2
