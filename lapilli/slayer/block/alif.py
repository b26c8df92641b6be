"""The module ``lapilli.blocks.alif`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.alif import *

sys.modules[__name__] = sys.modules["lapilli.blocks.alif"]
