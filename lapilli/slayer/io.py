"""The module ``lapilli.io`` itself, under lava-dl's name."""

import sys

from lapilli.io import *

sys.modules[__name__] = sys.modules["lapilli.io"]
