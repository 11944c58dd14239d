"""lab/speed/memory.py: large blocks are reused, in place of mapped and filled with zeros anew."""

import platform
import subprocess
import sys

import pytest

from config import DMConfig
from DDPM import ConditionalDDPM
from lab.training import trainer

# in a process of its own, which is changed for good
FAULTS = """
import resource
import torch
from lab.speed.memory import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {keep}:
    keep_freed()
for _ in range(20):
    torch.zeros(40 << 20, dtype=torch.uint8)
before = faults()
for _ in range(4):
    torch.zeros(40 << 20, dtype=torch.uint8)
print((faults() - before) * resource.getpagesize() >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
@pytest.mark.parametrize(("keep", "low", "high"), [(False, 100, 200), (True, 0, 10)])
def test_freed_memory_is_used_again(keep, low, high):
    """Of four times 40 MB, after some that make the room, how many are new pages."""
    done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True)
    assert low <= int(done.stdout) <= high


def test_training_on_a_cpu_keeps_what_it_frees(monkeypatch):
    called = []
    monkeypatch.setattr(trainer, "keep_freed", lambda: called.append(True))
    settings = DMConfig(num_feat=8)
    trainer.Trainer(ConditionalDDPM(settings), settings, 1, "cpu")
    assert called == [True]
    trainer.Trainer(ConditionalDDPM(settings), settings, 1, "meta")
    assert called == [True]
