"""The module ``lapilli.classifier`` itself, under lava-dl's name."""

import sys

from lapilli.classifier import *

sys.modules[__name__] = sys.modules["lapilli.classifier"]
