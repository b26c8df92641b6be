# ruff: noqa: T201 (prints what it finds)
"""Save networks over each other and kill the process, again and again.

    python kill_saves.py FOLDER KILLS

Prints one line for each kill that leaves a file which does not load or holds neither network.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch


def main(folder: str, kills: str) -> None:
    torch.set_num_threads(1)  # the children are forks
    from export_networks import network

    from lapilli import export

    path = Path(folder) / "a.net"
    nets: Any = [network(name)[0] for name in ("mlp", "delay")]  # of 3 and of 2 layers
    lengths = {len(net) for net in nets}
    assert len(lengths) == 2, "the networks must differ in what is looked at"
    export.save(nets[0], path)
    chance = random.Random(0)
    for kill in range(int(kills)):
        ready, child = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(child, b".")
            while True:
                for net in nets:
                    export.save(net, path)
        os.read(ready, 1)
        time.sleep(chance.uniform(0, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(child)
        try:
            if len(export.load(path)) not in lengths:
                print(f"{kill}: holds another network")
        except (OSError, ValueError) as error:
            print(f"{kill}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
