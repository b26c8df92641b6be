"""The module ``lapilli.blocks.cuba`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.cuba import *

sys.modules[__name__] = sys.modules["lapilli.blocks.cuba"]
