"""The network file: its tables, its layers, and HDF5.

    tables    every dataset that a file may hold, every kind of block, every family of neurons
    layers    a layer of a file, in memory: arrays and options, no blocks
    checks    whether a layer holds what its kind needs
    shapes    what goes into a layer and comes out of it
    reader    from a file, which may be foreign, damaged or hostile, to layers
    writer    from layers to a file
    netx      what Lava's reader of the same files would refuse, or run otherwise
    summary   what ``lapilli inspect`` prints
    files     files that appear complete or not at all
    errors    exceptions and warnings of all rooms

Imports no other room, and no block. ``data`` is a layer's datasets by their path in the file,
``params`` its attributes as JSON, ``entry`` what the tables say of one dataset.
"""
