"""The module ``lapilli.spike.complex`` itself, under lava-dl's name."""

import sys

from lapilli.spike.complex import *

sys.modules[__name__] = sys.modules["lapilli.spike.complex"]
