"""The commands `moca train base`, `cpt` and `cl`, a config in, checkpoints out; `moca train plot`, logs in, a picture out."""

from pathlib import Path
from typing import Annotated

import typer

from .plot import PlotReport, plot_runs
from .settings import RunReport

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A preset's name, or a .yaml file.")]
SettingsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that go before the config's.")
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="cpu|cuda", help="Where to train (a GPU where there is one).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]


def base(
    ctx: typer.Context,
    config: ConfigArgument,
    settings: SettingsArgument = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> RunReport:
    """Stage zero: a model out of nothing learns to read composed pages, letter by letter, then to read them on.

    Presets: tiny-read (crops; the vision tower alone) and tiny-base (whole pages; causal text layers as well). Documents
    and fonts come from moca data corpus, the model from moca model new. The same command goes on from the newest checkpoint,
    with larger steps beyond its end.

    \b
    Examples:
      moca train base tiny-read model=./new documents=texts.jsonl.gz faces=fonts out=runs/read steps=2
      moca train base tiny-base model=./new documents=texts.jsonl.gz faces=fonts out=runs/base batch_size=2 steps=1 --json
    """
    ctx.obj.as_json = as_json
    from .runs import run_base

    return run_base(config, settings or [], ctx.obj, device)


def cpt(
    ctx: typer.Context,
    config: ConfigArgument,
    settings: SettingsArgument = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> RunReport:
    """Stage one: a vision-language model learns to read in both directions, by restoring hidden text and pictures.

    Presets: paper-3b, paper-7b, repo-3b, tiny, and the ablations without-mlm, without-mae, causal. The same command goes on
    from the newest checkpoint, with larger steps beyond its end.
    Several GPUs: torchrun --nproc-per-node 8 -m moca_rag.train cpt CONFIG KEY=VALUE

    \b
    Examples:
      moca train cpt tiny model=./model data=rows/cpt.parquet out=runs/cpt steps=2
      moca train cpt paper-3b model=./model data=rows/cpt.parquet out=runs/3b steps=2 --json
    """
    ctx.obj.as_json = as_json
    from .runs import run_cpt

    return run_cpt(config, settings or [], ctx.obj, device)


def cl(
    ctx: typer.Context,
    config: ConfigArgument,
    settings: SettingsArgument = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> RunReport:
    """Stage two: pairs of query and page teach the encoder which page answers.

    Presets: paper, repo, tiny, and the ablations mixed-tasks, causal. The same command goes on from the newest
    checkpoint, with larger steps beyond its end.
    Several GPUs: torchrun --nproc-per-node 8 -m moca_rag.train cl CONFIG KEY=VALUE

    \b
    Examples:
      moca train cl tiny model=./model data=rows/cl.parquet out=runs/cl steps=2
      moca train cl paper model=./model data=rows/cl.parquet out=runs/paper batch_size=8 steps=2 --json
    """
    ctx.obj.as_json = as_json
    from .runs import run_cl

    return run_cl(config, settings or [], ctx.obj, device)


def plot(
    ctx: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders that were given to a run as out=.")],
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture to write.")] = Path("losses.png"),
    as_json: JsonOption = False,
) -> PlotReport:
    """Draw the loss curves of several runs into one PNG, finished or not.

    Each step's loss is a faint line, its running mean a strong one; dots are losses on held-out rows. A run of stage one
    has a panel for the loss of words and one for that of pictures, too.

    \b
    Examples:
      moca train plot runs/cpt runs/without-mae
      moca train plot runs/cpt --out curves/cpt.png --json
    """
    ctx.obj.as_json = as_json
    return plot_runs(runs, out)
