"""Every recurrence again, in plain torch, differentiated by autograd: what the kernels are held to.

Slow, and independent: nothing is imported from the rooms that compute, but a name or a setting.
"""
