"""The module ``lapilli.neurons.dropout`` itself, under lava-dl's name."""

import sys

from lapilli.neurons.dropout import *

sys.modules[__name__] = sys.modules["lapilli.neurons.dropout"]
