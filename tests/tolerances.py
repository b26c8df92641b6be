"""Float tolerances of the tests, each with its reason. What is an integer is compared exactly."""

# Order of the float32 operations and of the sums behind them.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}

# Decay, period, frequency of resonators: arctangent, logarithm and root in float32, of libraries
# that round the last bits differently.
RESONATOR_PROPERTY = {"rtol": 1e-5, "atol": 1e-6}

# States beyond 2**24 units where lava-dl passes float32 from one filter to the next and lapilli the
# integer. The golden cases reach 2**31 units, where a float32 is a multiple of 2**7 units or
# 2**-5; a few roundings add up in the voltage.
BEYOND_24_BITS = {"rtol": 2**-20, "atol": 2**-5}
