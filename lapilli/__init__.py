"""lapilli: train spiking networks for Loihi with fused, bit-exact kernels."""

__version__ = "0.1.0"
