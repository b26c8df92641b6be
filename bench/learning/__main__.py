"""Train a network around each cell, and beside it those of lava-dl and of torch.

python -m bench.learning                  all tasks, five seeds; goes on where it was stopped
python -m bench.learning --library lava-dl          where lava-dl is installed (make peers)
python -m bench.learning --seeds 1 --task digits --kind Dense    some of it
python -m bench.learning --table          only print the tables of what is stored
"""

import argparse
import sys

import torch

from . import networks, page, runs

KINDS = [*networks.AROUND, *runs.YARDSTICKS]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--surrogate-seeds", type=int, default=2, help="of the other surrogates")
    parser.add_argument("--task", action="append", choices=runs.TASKS)
    parser.add_argument("--library", action="append", choices=runs.LIBRARIES)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--fresh", action="store_true", help="forget what is stored")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.table:
        command = "python -m bench.learning " + " ".join(sys.argv[1:])
        runs.measure(
            args.task or list(runs.TASKS), args.library or list(runs.LIBRARIES),
            args.kind or KINDS, args.seeds, args.surrogate_seeds, args.fresh, command.strip(),
        )  # fmt: skip
    page.write(runs.stored())
    print("\n".join(page.tables(runs.stored())))  # noqa: T201


main()
