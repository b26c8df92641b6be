"""The module ``lapilli.neurons.adrf`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.adrf import *

sys.modules[__name__] = sys.modules["lapilli.neurons.adrf"]
