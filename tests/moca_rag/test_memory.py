"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

from moca_rag import memory

PROGRAM = """
import resource
import sys
import numpy as np
from moca_rag.memory import keep_memory

NUMBERS = 6 * 2**20 if len(sys.argv) > 1 else 2**20  # 48 MB are more than glibc keeps by itself

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        blocks = [np.ones(NUMBERS) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

asked = keep_memory(all_of_it=len(sys.argv) > 1)
faults()
print(asked, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own setting")
@pytest.mark.parametrize("words", [[], ["all"]])
def test_blocks_of_a_layers_size_are_faulted_in_once(words: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "True"
    assert int(found[1]) < 5000  # given back each time, 50 times 32 MB would be 400,000 pages


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_memory()
