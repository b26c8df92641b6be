"""The module ``lapilli.blocks.adrf_iz`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.adrf_iz import *

sys.modules[__name__] = sys.modules["lapilli.blocks.adrf_iz"]
