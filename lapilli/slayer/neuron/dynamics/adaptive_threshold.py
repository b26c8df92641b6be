"""The module ``lapilli.neurons.dynamics.adaptive_threshold`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dynamics.adaptive_threshold import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dynamics.adaptive_threshold"]
