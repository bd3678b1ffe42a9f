"""What `moca train` shows at the end of a run."""

from dataclasses import asdict

from moca_rag.train.settings import RunReport

from .terminal import Terminal

HIDDEN = ("step", "epoch", "seconds", "flops", "tokens", "learning_rate")


def show_run(terminal: Terminal, report: RunReport) -> int:
    """Where the model lies, how far the run came, and its last figures."""
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"out": str(report.out), "checkpoint": str(report.checkpoint)})
        return 0
    terminal.out.print(
        f"step {report.steps} of {report.num_steps}: {report.checkpoint}", highlight=False, soft_wrap=True
    )
    figures = [f"{name} {value:.4g}" for name, value in report.figures.items() if name not in HIDDEN]
    terminal.out.print(", ".join(figures), highlight=False)
    if report.steps < report.num_steps:
        terminal.out.print("stopped before its end; the same command goes on from there", highlight=False)
    return 0
