"""The module ``lapilli.blocks.sigma_delta`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.sigma_delta import *

sys.modules[__name__] = sys.modules["lapilli.blocks.sigma_delta"]
