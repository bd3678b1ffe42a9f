"""Finds a model's folder and says what decides its embeddings: settings, prompts, revision; never loads torch."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import bundled
from .deadline import ask_in_time
from .errors import ConfigError, ModelError, one_line
from .records import FusionWeights, ModelCard, PixelBudget

PAGE_PROMPT = "Represent the given document image."
SETTINGS_FILE = "moca.json"
ADAPTER_FILE = "adapter_config.json"
INDEX_FILE = "model.safetensors.index.json"
HUB_FILES: dict[str, Any] = {"allow_patterns": ["*.json", "*.safetensors"], "ignore_patterns": ["*/*"]}
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
DECIDES_NOTHING = {ADAPTER_FILE: "base_model_name_or_path", SETTINGS_FILE: "weights"}  # of a file
# One answer of the hub has to come within this time: DNS and dead routes know no other limit.
HUB_SECONDS = 1.5
SAMPLES, SAMPLE_BYTES = 64, 4096
MIN_TOKENS = 64
MOST_REGIONS = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on this machine: the name it was asked for by, its folder, and the revision of its content.

    Where an adapter was asked for, `folder` is that of its base model, and the revision covers both.
    """

    name: str
    folder: Path
    revision: str
    adapter: Path | None = None

    def file(self, name: str) -> Path:
        """Where a file that comes with the weights lies or would lie: an adapter's own goes before its base's."""
        if self.adapter and (self.adapter / name).is_file():
            return self.adapter / name
        return self.folder / name


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What lives with a model beside its weights, from its `moca.json`; the defaults are MoCa's own.

    `mask_token_id` is the token of masked language modelling; None means the tokenizer's own `<|mask|>`.
    `max_tokens` is the length of the longest sequence that is encoded, image and text together. A `causal` model was
    left as vision-language models are: a token sees what stands before it, and the last one is the embedding.
    `drop_blank` leaves out the visual tokens of cells that are of one even colour, over half of many pages.
    A page picture has an embedding of each of its `regions`, equal runs of its visual tokens, and is found by the best.
    `weights` are how far its rankings are believed in hybrid search: less than the defaults for a model that sees little.
    """

    page_prompt: str = PAGE_PROMPT
    query_prompt: str = ""
    min_pixels: int = PixelBudget().min_pixels
    max_pixels: int = PixelBudget().max_pixels
    mask_token_id: int | None = None
    max_tokens: int = 2048
    causal: bool = False
    drop_blank: bool = False
    regions: int = 1
    weights: FusionWeights = field(default_factory=FusionWeights)

    @property
    def page_regions(self) -> int:
        """How many embeddings a page has: a causal model's one is its last token's."""
        return 1 if self.causal else self.regions


def read_card(model: str | Path, pixels: PixelBudget | None = None, dimension: int | None = None) -> ModelCard:
    """What decides the embeddings of a model, without loading it; `pixels` overrides its own budget.

    `dimension` keeps only that many first numbers of an embedding. Raises ModelError when the model cannot be found
    or read, ConfigError on a budget or dimension that cannot be used.
    """
    return make_card(find_checkpoint(model), pixels, dimension)


def make_card(checkpoint: Checkpoint, pixels: PixelBudget | None = None, dimension: int | None = None) -> ModelCard:
    """The card of a model on this machine; see `read_card`."""
    settings = read_settings(checkpoint)
    budget = pixels or PixelBudget(settings.min_pixels, settings.max_pixels)
    if budget.factor != PixelBudget().factor or not 0 < budget.min_pixels <= budget.max_pixels:
        raise ConfigError(f"{budget} cannot be used: its factor is 28 and its pixels rise from above 0")
    values = read_values(checkpoint)
    whole: int = values.get("text_config", values)["hidden_size"]
    if dimension is not None and not 1 <= dimension <= whole:
        raise ConfigError(f"embeddings of {dimension} numbers cannot be had from {checkpoint.name}: give 1 to {whole}")
    return ModelCard(
        name=checkpoint.name,
        revision=checkpoint.revision,
        dimension=whole if dimension is None else dimension,
        pooling="last" if settings.causal else "mean",
        page_prompt=settings.page_prompt,
        query_prompt=settings.query_prompt,
        pixels=budget,
        regions=settings.page_regions,
        weights=settings.weights,
    )


def find_checkpoint(model: str | Path) -> Checkpoint:
    """The model in a local folder, else in the local hub cache, else from the hub; a LoRA adapter brings its base.

    The bare name `moca-tiny` is the model that comes along, wherever the package lies (`./moca-tiny` is a folder).
    A hub that cannot be reached costs about a second and is asked once. Raises ModelError, naming what was looked for.
    """
    found = _find_folder(model)
    if not (found.folder / ADAPTER_FILE).is_file():
        return found
    base = _find_base(found.folder)
    revision = hashlib.sha256(f"{base.revision} {found.revision}".encode()).hexdigest()[:40]
    return Checkpoint(found.name, base.folder, revision, adapter=found.folder)


def _find_folder(model: str | Path) -> Checkpoint:
    if model == bundled.TINY:
        return _find_tiny()
    folder = Path(model).expanduser()
    if str(model) and folder.is_dir():
        _require_model(folder)
        return Checkpoint(str(model), folder, hash_folder(folder))
    if isinstance(model, Path) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model):
        raise ModelError(f"no model folder at {model}: give a folder with config.json, or a hub id such as owner/name")
    cached = _find_cached(model) or _download(model)
    _require_model(cached)
    return Checkpoint(model, cached, cached.name)


def _find_tiny() -> Checkpoint:
    """The model that comes along, under its name alone: collections that name it open on every machine."""
    if not bundled.has_tiny():
        raise ModelError(
            f"{bundled.TINY} is not in this copy of moca_rag (its files belong into {bundled.TINY_FOLDER}): "
            "install a wheel, or give a model folder or a hub id"
        )
    return Checkpoint(bundled.TINY, bundled.TINY_FOLDER, hash_folder(bundled.TINY_FOLDER))


def _find_base(adapter: Path) -> Checkpoint:
    """The base model of an adapter: a folder, from the adapter's own or from here, or a hub id."""
    path = adapter / ADAPTER_FILE
    values = read_json(path)
    name, revision = values.get("base_model_name_or_path"), values.get("revision")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{path}: base_model_name_or_path {name!r} names no model: write its folder or hub id there")
    local = adapter / name if (adapter / name).is_dir() else Path(name).expanduser()
    try:
        base = _find_folder(local if local.is_dir() else name)
    except ModelError as error:
        raise ModelError(f"{path}: the base model {name} cannot be had: {error}") from error
    if (base.folder / ADAPTER_FILE).is_file():
        raise ModelError(f"{path}: the base model {name} is an adapter itself: merge that with peft first")
    if not local.is_dir() and revision not in (None, "", "main", base.revision):
        raise ModelError(
            f"{path}: the adapter was trained on revision {revision!r} of {name}, not on {base.revision}: "
            "fetch that one into a folder, and write the folder into base_model_name_or_path"
        )
    return base


def _require_model(folder: Path) -> None:
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_FILE)):
        raise ModelError(f"the folder {folder} holds no model (no config.json): give the folder that holds it")


def _find_cached(name: str) -> Path | None:
    """The hub cache's copy of a model, where it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, **HUB_FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    try:
        _require_model(folder)
        list_weights(folder)
    except ModelError:
        return None
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    start = f"no model folder {name} and no whole copy of it in the hub cache"
    advice = "give a model folder, or fetch it where there is a network: hf download " + name
    try:
        _ask_hub(name)
        return Path(snapshot_download(name, **HUB_FILES))
    except OfflineModeIsEnabled as error:
        raise ModelError(f"{start}, and the hub is switched off (HF_HUB_OFFLINE): {advice}") from error
    except GatedRepoError as error:
        raise ModelError(f"{start}, and its owner asks for a login: accept the terms, then hf auth login") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{start}, and the hub does not know it: check the name") from error
    except Exception as error:  # the hub's client raises another library's errors in each of its versions
        raise ModelError(f"{start}, and the hub could not be reached ({one_line(error)}): {advice}") from error


def _ask_hub(name: str) -> None:
    """One look-up with a hard time limit; raises the client's error, or TimeoutError."""
    from huggingface_hub import HfApi

    ask_in_time(lambda: HfApi().model_info(name, timeout=HUB_SECONDS), HUB_SECONDS)


def hash_folder(folder: Path) -> str:
    """A hash of what decides embeddings: the JSON files that are read, and weights by header, size and samples.

    Sampling keeps it far below a second for any size; a training step moves every weight, so samples see it.
    """
    digest = hashlib.sha256()
    is_adapter = (folder / ADAPTER_FILE).is_file()
    for name in (ADAPTER_FILE if is_adapter else "config.json", "tokenizer.json", SETTINGS_FILE):
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if content and name in DECIDES_NOTHING:
            rest = read_json(folder / name) | {DECIDES_NOTHING[name]: None}
            content = json.dumps(rest, sort_keys=True).encode()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    for path in list_weights(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(header, size)))
            for index in range(SAMPLES):
                file.seek(size * index // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:40]


def read_settings(checkpoint: Checkpoint) -> ModelSettings:
    """The settings in the model's moca.json, or the defaults; raises ModelError on an unknown or unusable one."""
    path = checkpoint.file(SETTINGS_FILE)
    if not path.is_file():
        return ModelSettings()
    values = read_json(path)
    weights = _read_weights(path, values.pop("weights", {}))
    settings = ModelSettings(**_check_settings(path, values), weights=weights)
    if not 0 < settings.min_pixels <= settings.max_pixels:
        raise ModelError(f"{path}: min_pixels {settings.min_pixels} and max_pixels {settings.max_pixels} are no range")
    if settings.mask_token_id is not None and settings.mask_token_id < 0:
        raise ModelError(f"{path}: mask_token_id {settings.mask_token_id} is no token")
    if not 1 <= settings.regions <= MOST_REGIONS:
        raise ModelError(
            f"{path}: regions {settings.regions} is no number of parts of a page: give 1 to {MOST_REGIONS}"
        )
    if settings.max_tokens < MIN_TOKENS:
        raise ModelError(f"{path}: max_tokens {settings.max_tokens} is too short for a page: give {MIN_TOKENS} or more")
    return settings


def _check_settings(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    kinds = {name: type(getattr(ModelSettings(), name)) for name in ModelSettings.__slots__}
    kinds["mask_token_id"] = int
    for key, value in values.items():
        _check_name(path, "setting", key, kinds)
        if type(value) is not kinds[key]:
            raise ModelError(f"{path}: {key} must be of type {kinds[key].__name__}, not {value!r}")
    return values


def _read_weights(path: Path, values: Any) -> FusionWeights:
    if not isinstance(values, dict):
        raise ModelError(
            f"{path}: weights must be an object such as {json.dumps(asdict(FusionWeights()))}, not {values!r}"
        )
    for key in values:
        _check_name(path, "weight", key, FusionWeights.__slots__)
    try:
        return FusionWeights(**values)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_name(path: Path, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ModelError(f"{path}: unknown {kind} {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))


def read_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """The values of the base's config.json; raises ModelError when it is not that of a Qwen2.5-VL model."""
    path = checkpoint.folder / "config.json"
    values = read_json(path)
    if values.get("model_type") != "qwen2_5_vl":
        raise ModelError(
            f"{path}: the model type {values.get('model_type')!r} is not qwen2_5_vl: use a Qwen2.5-VL model"
        )
    text = values.get("text_config", values)
    if not isinstance(text, dict) or type(text.get("hidden_size")) is not int or text["hidden_size"] < 1:
        raise ModelError(f"{path} is no usable config (no hidden_size of the text layers): copy it again")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ModelError when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({one_line(error)}): copy it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object, not a {type(value).__name__}: copy it again")
    return value


def list_weights(folder: Path) -> list[Path]:
    """The safetensors files of a model, or the one of an adapter; raises ModelError when one of them is missing."""
    index = folder / INDEX_FILE
    if (folder / ADAPTER_FILE).is_file():
        names = ["adapter_model.safetensors"]
    elif index.is_file():
        weight_map = read_json(index).get("weight_map")
        names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if names and not missing:
        return [folder / name for name in names]
    if any(path for pattern in PICKLED for path in folder.glob(pattern)):
        raise ModelError(f"the weights in {folder} are pickled, which can run code: convert them to safetensors")
    raise ModelError(
        f"the model folder {folder} lacks its weights ({(missing or names or [INDEX_FILE])[0]}): copy it whole"
    )
