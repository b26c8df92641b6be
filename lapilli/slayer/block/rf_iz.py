"""The module ``lapilli.blocks.rf_iz`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.rf_iz import *

sys.modules[__name__] = sys.modules["lapilli.blocks.rf_iz"]
