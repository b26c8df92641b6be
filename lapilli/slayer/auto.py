"""The module ``lapilli.auto`` itself, under lava-dl's name."""

import sys

from lapilli.auto import *

sys.modules[__name__] = sys.modules["lapilli.auto"]
