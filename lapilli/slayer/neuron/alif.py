"""The module ``lapilli.neurons.alif`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.alif import *

sys.modules[__name__] = sys.modules["lapilli.neurons.alif"]
