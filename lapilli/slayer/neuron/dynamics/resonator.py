"""The module ``lapilli.neurons.dynamics.resonator`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dynamics.resonator import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dynamics.resonator"]
