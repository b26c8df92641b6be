"""The module ``lapilli.neurons.norm`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.norm import *

sys.modules[__name__] = sys.modules["lapilli.neurons.norm"]
