"""The module ``lapilli.blocks.adrf`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.adrf import *

sys.modules[__name__] = sys.modules["lapilli.blocks.adrf"]
