"""The module ``lapilli.blocks.synapse`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.synapse import *

sys.modules[__name__] = sys.modules["lapilli.blocks.synapse"]
