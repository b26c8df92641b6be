"""The module ``lapilli.neurons.rf`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.rf import *

sys.modules[__name__] = sys.modules["lapilli.neurons.rf"]
