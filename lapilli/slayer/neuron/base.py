"""The module ``lapilli.neurons.base`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.base import *

sys.modules[__name__] = sys.modules["lapilli.neurons.base"]
