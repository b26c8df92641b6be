"""The module ``lapilli.neurons.rf_iz`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.rf_iz import *

sys.modules[__name__] = sys.modules["lapilli.neurons.rf_iz"]
