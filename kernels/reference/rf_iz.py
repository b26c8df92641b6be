"""Oracle of the RF-Izhikevich and ADRF-Izhikevich neurons, which spike by their imaginary part."""

import functools

from .resonator import adaptive_dynamics, adaptive_threshold, constant_threshold

rf_iz = functools.partial(constant_threshold, False)
adrf_iz = functools.partial(adaptive_threshold, False)
adrf_iz_dynamics = functools.partial(adaptive_dynamics, False)
