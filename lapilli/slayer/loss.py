"""The module ``lapilli.loss`` itself, under lava-dl's name."""

import sys

from lapilli.loss import *

sys.modules[__name__] = sys.modules["lapilli.loss"]
