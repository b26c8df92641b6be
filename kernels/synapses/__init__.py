"""What multiplies spikes by weights.

``quantize`` and ``normalize`` make weights of eight bits. ``events`` and ``event_convolution`` add
the rows of a weight that belong to spikes, ``codes`` holds such rows as bytes; ``bfloat16`` splits
operands for tensor cores, on which ``tiled_convolution`` convolves; ``frame`` is one step of a
fully connected layer.
"""
