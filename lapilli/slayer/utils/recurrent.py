"""The module ``lapilli.recurrent`` itself, under lava-dl's name."""

import sys

from lapilli.recurrent import *

sys.modules[__name__] = sys.modules["lapilli.recurrent"]
