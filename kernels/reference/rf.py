"""Oracle of the RF and ADRF neurons, which spike by phase."""

import functools

from .resonator import adaptive_dynamics, adaptive_threshold, constant_threshold

rf = functools.partial(constant_threshold, True)
adrf = functools.partial(adaptive_threshold, True)
adrf_dynamics = functools.partial(adaptive_dynamics, True)
