"""``python -m lapilli``, which is what torchrun starts: the command line of ``program.cli``."""

import sys

from .program.cli import main

if __name__ == "__main__":
    sys.exit(main())
