"""Oracles: plain torch, one loop over time, differentiated by autograd; slow and independent."""
