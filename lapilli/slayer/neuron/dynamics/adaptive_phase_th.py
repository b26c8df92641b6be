"""The module ``lapilli.neurons.dynamics.adaptive_phase_th`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dynamics.adaptive_phase_th import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dynamics.adaptive_phase_th"]
