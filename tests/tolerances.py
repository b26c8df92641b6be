"""Float tolerances of the tests, each with its reason. What is an integer is compared exactly."""

from typing import TypedDict


class Tolerance(TypedDict):
    rtol: float
    atol: float


# Order of the float32 operations and of the sums behind them.
FLOAT32: Tolerance = {"rtol": 1e-5, "atol": 1e-6}

# Decay, period, frequency of resonators: arctangent, logarithm and root in float32, of libraries
# that round the last bits differently.
RESONATOR_PROPERTY: Tolerance = {"rtol": 1e-5, "atol": 1e-6}

# States beyond 2**24 units where lava-dl passes float32 from one filter or step to the next and
# lapilli the integer. The golden cases reach 2**31 units, where a float32 is a multiple of 2**7
# units or 2**-5; a few roundings add up in the voltage.
BEYOND_24_BITS: Tolerance = {"rtol": 2**-20, "atol": 2**-5}

# Fourier transform of float32: a few bits of the largest value, not of each one.
TRANSFORM: Tolerance = {"rtol": 1e-5, "atol": 2e-5}

# Gradients that the specification prints with six digits: half a unit of the last, and FLOAT32.
SIX_DIGITS: Tolerance = {"rtol": 1e-5, "atol": 0}

# The fused kernels and their parts apart: another order of the products, and of the sums over
# samples, neurons and steps, which cancel. A share of the largest entry.
FUSED_GRADIENT = 2e-5

# Gradients of processes that share a batch: each sums over its samples, then torch over the
# processes, where one process sums over all samples at once. The order of float32 sums that cancel,
# as above; a share of the largest entry.
SHARED_GRADIENT = 2e-5

# Compiled kernels on the executor of PTX: each operation rounds as in the CPU's loops, in the same
# order, but for exponentials (two units in the last place) and sums of matrix products. A share of
# the largest entry.
EXECUTED_GRADIENT = 2e-6

# Backward passes in float32 over 2000 steps against float64, a share of the largest entry of a
# channel: the largest error seen is 3e-5, of rf and adrf_iz at the lowest threshold.
LONG_GRADIENTS = 1e-4
# Where feedback goes round in them as well: the largest error seen is 2.1e-4, of a channel that
# forgets nothing; of the others 4e-5.
LONG_FEEDBACK = 4e-4

# Whole blocks on the kernels and on the reference: what docs/how-it-works.md promises, a share of
# the largest entry of a gradient. Sums over samples, neurons and steps that cancel; the largest
# error seen is 4e-5.
REFERENCE_GRADIENT = 1e-4
