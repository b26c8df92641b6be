"""The module ``lapilli.neurons.dynamics.adaptive_resonator`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dynamics.adaptive_resonator import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dynamics.adaptive_resonator"]
