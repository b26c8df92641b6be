"""The module ``lapilli.neurons.cuba`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.cuba import *

sys.modules[__name__] = sys.modules["lapilli.neurons.cuba"]
