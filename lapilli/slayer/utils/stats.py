"""The module ``lapilli.stats`` itself, under lava-dl's name."""

import sys

from lapilli.stats import *

sys.modules[__name__] = sys.modules["lapilli.stats"]
