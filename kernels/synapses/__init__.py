"""What multiplies spikes by weights.

``quantize`` and ``normalize`` make weights of eight bits. ``events`` finds the spikes,
``event_products`` and ``event_convolution`` add the rows of a weight that belong to them, ``codes``
holds such rows as bytes; ``bfloat16`` splits operands for tensor cores, on which
``tiled_convolution`` convolves; ``frame`` is one step of a fully connected layer.

Short names that recur: ``M, K, O`` are the frames (samples times steps), inputs and outputs of a
product ``y = x w``, ``g`` is the gradient of ``y``; ``m``, ``k`` and ``o`` are one of each, ``e``
is one event. ``step`` is the distance of two levels of a weight, ``level`` a whole number of steps,
``limit`` the first level above the range, ``unit`` what a level is worth in the result. ``starts``
tells where the events of each frame begin, ``mask`` which bits of a stored column are the column.
``B`` and ``width`` count the outputs of a block that stays in the cache, ``parts`` and ``chunks``
what is done one after the other or by threads. ``first, last`` are the tiles of a call of a loop.
"""
