"""The module ``lapilli.neurons.sigma`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.sigma import *

sys.modules[__name__] = sys.modules["lapilli.neurons.sigma"]
