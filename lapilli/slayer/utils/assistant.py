"""The module ``lapilli.assistant`` itself, under lava-dl's name."""

import sys

from lapilli.assistant import *

sys.modules[__name__] = sys.modules["lapilli.assistant"]
