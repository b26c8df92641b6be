"""The module ``lapilli.neurons.adrf_iz`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.adrf_iz import *

sys.modules[__name__] = sys.modules["lapilli.neurons.adrf_iz"]
