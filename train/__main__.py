"""Training under torchrun: `torchrun --nproc-per-node 8 -m moca_rag.train base|cpt|cl CONFIG [key=value ...]`."""

import argparse
import logging
import os

from moca_rag.errors import MocaError
from moca_rag.progress import SilentReporter

from .runs import run_base, run_cl, run_cpt


class LogReporter(SilentReporter):
    """Says its lines to the log: a rank of many has no terminal."""

    def say(self, message: str) -> None:
        """One line of the log."""
        logging.info(message)


def main() -> int:
    """Run a stage on this rank; it logs instead of drawing. The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["base", "cpt", "cl"])
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--device")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run = {"base": run_base, "cpt": run_cpt, "cl": run_cl}[options.stage]
        run(options.config, options.settings, LogReporter(), options.device)
    except MocaError as error:
        logging.error("moca: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # All is on disk. While Python takes itself down, a thread of the process group that still lets go of a tensor is ended
    # in the middle, and C++ aborts the whole process for it (once in some fifty runs on gloo).
    os._exit(code)
