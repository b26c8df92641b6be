"""The module ``lapilli.blocks.base`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.base import *

sys.modules[__name__] = sys.modules["lapilli.blocks.base"]
