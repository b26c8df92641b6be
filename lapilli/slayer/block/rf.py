"""The module ``lapilli.blocks.rf`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.rf import *

sys.modules[__name__] = sys.modules["lapilli.blocks.rf"]
