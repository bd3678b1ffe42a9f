"""The command `moca train cpt`: a config in, checkpoints out."""

from typing import Annotated, Any

import typer


def cpt(
    ctx: typer.Context,
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A preset (paper-3b, paper-7b, repo-3b, tiny) or a .yaml file.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that go before the config's.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|cuda", help="Where to train (a GPU where there is one).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> Any:
    """Stage one: teach a vision-language model to read in both directions, by joint reconstruction of text and image.

    The same command goes on from the newest checkpoint. On several GPUs: torchrun -m moca_rag.train CONFIG KEY=VALUE.

    \b
    Examples:
      moca train cpt tiny model=./model data=rows/cpt.parquet out=runs/cpt
      moca train cpt paper-3b model=Qwen/Qwen2.5-VL-3B-Instruct data=rows/cpt.parquet out=runs/cpt steps=2000
    """
    ctx.obj.as_json = as_json
    from .runs import run_cpt

    return run_cpt(config, settings or [], ctx.obj, device)
