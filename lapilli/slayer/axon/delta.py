"""The module ``lapilli.neurons.delta`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.delta import *

sys.modules[__name__] = sys.modules["lapilli.neurons.delta"]
