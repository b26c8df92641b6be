"""Command line ``lapilli``: train, check, run, inspect, profile, kernels, warm, info and others.

Exit status: 0 done; 1 the exported network differs from the trained one, or the network cannot be
deployed; 2 wrong input, with one line that says what; 130 interrupted; 141 nobody reads the output.
"""

import os
import sys
from collections.abc import Sequence

from lapilli import processes
from lapilli.errors import UsageError, wrong_input
from lapilli.extras import MissingExtraError

from .arguments import parser
from .commands import COMMANDS
from .ending import CLOSED_PIPE, INTERRUPTED, WRONG_INPUT, say
from .training_run import train
from .waiting import sleep_while_waiting


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments after the program's name; None: those of the process.

    Returns
    -------
    int
        Exit status, see the module.
    """
    sleep_while_waiting()
    try:
        try:
            return _execute(argv)
        finally:
            sys.stdout.flush()  # here, where a closed pipe can be caught
    except BrokenPipeError:
        # Python flushes once more at exit, to where nothing can fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE


def _execute(argv: Sequence[str] | None) -> int:
    try:
        with processes.together() as group:
            code = _execute_together(argv, group)
            if code == WRONG_INPUT:
                group.wait()  # torchrun ends all as soon as one leaves: the first has to say why
            return code
    except UsageError as error:  # of what torchrun has said
        say(f"error: {error}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED


def _execute_together(argv: Sequence[str] | None, group: processes.Processes) -> int:
    try:
        with wrong_input():
            args = group.agreed(lambda: parser().parse_args(argv))
            if args.command == "train":
                return train(args, group)
            if group.size > 1:
                raise UsageError(
                    f"only train runs in several processes; start lapilli {args.command} without "
                    f"torchrun"
                )
            return COMMANDS[args.command](args)
    except (UsageError, MissingExtraError) as error:
        say(f"error: {error}")
        return WRONG_INPUT
