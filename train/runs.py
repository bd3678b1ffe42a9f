"""A run's folder: what it was asked for lies beside what it makes, and nothing else may go on from it."""

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import yaml

from moca_rag.config import load_settings
from moca_rag.errors import ConfigError
from moca_rag.locks import WriteLock
from moca_rag.progress import Reporter

from . import base, cl, cpt
from .checkpoints import list_checkpoints
from .loop import Stage, train
from .ranks import Ranks, join_ranks, leave_ranks
from .settings import BaseSettings, ClSettings, CptSettings, RunReport, RunSettings

CONFIGS = Path(__file__).parent / "configs"
# What may change from one start to the next of the same run: none of these touches a batch, a mask or a step.
FREE = (
    "keep",
    "log_steps",
    "save_steps",
    "held_out_steps",
    "show_steps",
    "max_bad_rows",
    "recompute",
    "out",
    "workers",
    "file_mb",
)
LONGER = ("steps", "epochs")  # which may grow: the rest of the way is then longer, and the rate falls over all of it
Settings = TypeVar("Settings", bound=RunSettings)

PACKAGES = ("moca_rag", "torch", "transformers", "numpy", "tokenizers")


def find_config(name: str, stage: str) -> Path:
    """The config of a file's name, or of a stage's preset. Raises ConfigError, naming the presets."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    preset = CONFIGS / stage / f"{name}.yaml"
    if preset.is_file():
        return preset
    known = ", ".join(sorted(path.stem for path in (CONFIGS / stage).glob("*.yaml")))
    raise ConfigError(f"there is no config {name!r} of stage {stage}: give a .yaml file or one of {known}")


def run_base(config: str, words: list[str], reporter: Reporter, device: str | None = None) -> RunReport:
    """Stage zero from a config and `key=value` words, to its end or a signal; see `BaseSettings`."""
    settings = load_settings(BaseSettings(), find_config(config, "base"), words)
    return _run(settings, base.open_stage, {"config": config, "words": words}, reporter, device)


def run_cpt(config: str, words: list[str], reporter: Reporter, device: str | None = None) -> RunReport:
    """Stage one from a config and `key=value` words, to its end or a signal; see `CptSettings`."""
    settings = load_settings(CptSettings(), find_config(config, "cpt"), words)
    return _run(settings, cpt.open_stage, {"config": config, "words": words}, reporter, device)


def run_cl(config: str, words: list[str], reporter: Reporter, device: str | None = None) -> RunReport:
    """Stage two from a config and `key=value` words, to its end or a signal; see `ClSettings`."""
    settings = load_settings(ClSettings(), find_config(config, "cl"), words)
    return _run(settings, cl.open_stage, {"config": config, "words": words}, reporter, device)


def _run(
    settings: Settings,
    open_stage: Callable[[Settings, Ranks], Stage],
    facts: Mapping[str, Any],
    reporter: Reporter,
    device: str | None,
) -> RunReport:
    ranks = join_ranks(device)
    run = _check_out(settings)
    lock = WriteLock(run / "lock") if ranks.leads else None
    try:
        stage = open_stage(settings, ranks)
        if ranks.leads:
            write_record(run, settings, {"data": stage.fingerprint(), **facts})
        ranks.wait()
        figures = train(stage, settings, ranks, reporter)
        newest = list_checkpoints(run)
        return RunReport(run, newest[-1] if newest else None, int(figures.get("step", 0)), stage.num_steps, figures)
    finally:
        if lock is not None:
            lock.release()
        leave_ranks()


def _check_out(settings: RunSettings) -> Path:
    if not settings.out:
        raise ConfigError("no place for the run: set out=FOLDER")
    run = Path(settings.out)
    run.mkdir(parents=True, exist_ok=True)
    return run


def write_record(run: Path, settings: RunSettings, facts: Mapping[str, Any]) -> None:
    """`settings.yaml`, resolved, and `run.yaml` with versions, data and command; once for a run.

    A run may be made longer; `run.yaml` then says from what on and by which command. Raises ConfigError where the run was
    begun with other settings or data.
    """
    mine = asdict(settings)
    values = yaml.safe_load(yaml.safe_dump(_plain(mine)))
    path, record = run / "settings.yaml", run / "run.yaml"
    if path.exists() and record.exists():
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
        told = yaml.safe_load(record.read_text(encoding="utf-8"))
        grown = {key: theirs[key] for key in LONGER if 0 < theirs.get(key, 0) < values[key]}
        usual = _plain(asdict(type(settings)()))  # of a setting that came after the run was begun
        differences = [
            f"{key}: {theirs.get(key, usual[key])} -> {value}"
            for key, value in values.items()
            if key not in (*FREE, *grown, "data", "held_out") and theirs.get(key, usual[key]) != value
        ]
        if told.get("data") != facts["data"]:
            differences.append("the data are others")
        if differences:
            raise ConfigError(
                f"{run} was begun with other settings ({'; '.join(differences)}): use the same, or another out=FOLDER"
            )
        if grown:
            told.setdefault("longer", []).append({"was": grown, "command": sys.argv})
            _write(record, told)
            _write(path, theirs | {key: values[key] for key in grown})
        return
    _write(path, values)
    facts = {
        **facts,
        "command": sys.argv,
        "python": platform.python_version(),
        "host_ranks": os.environ.get("WORLD_SIZE", "1"),
    }
    facts["packages"] = {name: _version(name) for name in PACKAGES}
    _write(record, _plain(facts))


def _write(path: Path, values: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    os.replace(draft, path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
