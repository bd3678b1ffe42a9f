"""The commands `moca train cpt` and `moca train cl`: a config in, checkpoints out."""

from typing import Annotated

import typer

from .settings import RunReport

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A preset's name, or a .yaml file.")]
SettingsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that go before the config's.")
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="cpu|cuda", help="Where to train (a GPU where there is one).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]


def cpt(
    ctx: typer.Context,
    config: ConfigArgument,
    settings: SettingsArgument = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> RunReport:
    """Stage one: a vision-language model learns to read in both directions, by restoring hidden text and pictures.

    Presets: paper-3b, paper-7b, repo-3b, tiny, and the ablations without-mlm, without-mae, causal. The same command goes on
    from the newest checkpoint. Several GPUs: torchrun --nproc-per-node 8 -m moca_rag.train cpt CONFIG KEY=VALUE

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
    checkpoint. Several GPUs: torchrun --nproc-per-node 8 -m moca_rag.train cl CONFIG KEY=VALUE

    \b
    Examples:
      moca train cl tiny model=./model data=rows/cl.parquet out=runs/cl steps=2
      moca train cl paper model=./model data=rows/cl.parquet out=runs/paper batch_size=8 steps=2 --json
    """
    ctx.obj.as_json = as_json
    from .runs import run_cl

    return run_cl(config, settings or [], ctx.obj, device)
