"""The module ``lapilli.spike.spike`` itself, under lava-dl's name."""

import sys

from lapilli.spike.spike import *

sys.modules[__name__] = sys.modules["lapilli.spike.spike"]
