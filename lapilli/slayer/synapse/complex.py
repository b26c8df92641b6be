"""The module ``lapilli.blocks.complex_synapse`` itself, under lava-dl's name."""

import sys

from lapilli.blocks.complex_synapse import *

sys.modules[__name__] = sys.modules["lapilli.blocks.complex_synapse"]
