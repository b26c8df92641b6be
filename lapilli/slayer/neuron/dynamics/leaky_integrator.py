"""The module ``lapilli.neurons.dynamics.leaky_integrator`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dynamics.leaky_integrator import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dynamics.leaky_integrator"]
