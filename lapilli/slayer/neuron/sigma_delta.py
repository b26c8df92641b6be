"""The module ``lapilli.neurons.sigma_delta`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.sigma_delta import *

sys.modules[__name__] = sys.modules["lapilli.neurons.sigma_delta"]
