"""Writes and reads the state of a run: a model folder that opens anywhere, and beside it what going on needs.

<run>/checkpoints/step-00000200/
  config.json, tokenizer.json, moca.json, *.safetensors   the model in float32: `moca index --model` opens it
  training/state.json                                     step, place in the data, losses
  training/*.safetensors                                  optimizer moments, heads that the model does not keep
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from moca_rag.errors import ModelError, one_line

STEP_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state: its step, folder, and what `state.json` says."""

    step: int
    folder: Path
    state: dict[str, Any]


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first; a name that is not a step's is none."""
    folder = run / "checkpoints"
    found = [path for path in folder.iterdir() if STEP_NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found)


def find_newest(run: Path) -> Checkpoint | None:
    """The checkpoint from which a run goes on. Raises ModelError where it cannot be read."""
    folders = list_checkpoints(run)
    if not folders:
        return None
    path = folders[-1] / "training" / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({one_line(error)}): delete its folder to go on from before"
        ) from error
    return Checkpoint(int(folders[-1].name.removeprefix("step-")), folders[-1], state)


class Draft:
    """A checkpoint in the making: a folder beside its place, which `finish` puts there whole."""

    def __init__(self, run: Path, step: int) -> None:
        self.place = run / "checkpoints" / f"step-{step:08d}"
        self.folder = self.place.with_name(f".{self.place.name}.new")
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "training").mkdir(parents=True)

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor], file_bytes: int) -> None:
        """The tensors as `training/<name>-00001.safetensors` and on, no file much over `file_bytes`."""
        for number, part in enumerate(cut_files(tensors, file_bytes), 1):
            save_file(part, self.folder / "training" / f"{name}-{number:05d}.safetensors")

    def write_state(self, state: Mapping[str, Any]) -> None:
        """What `state.json` says."""
        text = json.dumps(state, indent=1, sort_keys=True)
        (self.folder / "training" / "state.json").write_text(text + "\n", encoding="utf-8")

    def finish(self, keep: int) -> Path:
        """Put it in its place, on disk for good, and drop all but the newest `keep`."""
        for path in sorted(self.folder.rglob("*")):
            _sync(path)
        shutil.rmtree(self.place, ignore_errors=True)
        os.rename(self.folder, self.place)
        _sync(self.place.parent)
        for old in list_checkpoints(self.place.parent.parent)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
        return self.place

    def discard(self) -> None:
        """Leave no trace."""
        shutil.rmtree(self.folder, ignore_errors=True)


def read_tensors(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    """What `write_tensors` wrote. Raises ModelError where a file is not whole."""
    tensors: dict[str, Tensor] = {}
    for path in sorted((checkpoint.folder / "training").glob(f"{name}-*.safetensors")):
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is not whole ({one_line(error)}): delete its checkpoint to go on from the one before"
            ) from error
    return tensors


def cut_files(tensors: Mapping[str, Tensor], file_bytes: int) -> Iterator[dict[str, Tensor]]:
    """The tensors in order, cut into parts of about `file_bytes`; a larger tensor stands alone."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if part and size + tensor.nbytes > file_bytes:
            yield part
            part, size = {}, 0
        part[name] = tensor.contiguous()
        size += tensor.nbytes
    if part:
        yield part


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
