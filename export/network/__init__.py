"""From blocks to layers of a file, and back.

    blocks    the blocks that a module holds, and which kind each of them is
    describe  from a block to its layer
    build     from layers to blocks that run: ``load``
    probe     the chain of blocks that really ran, found by running a network
    saving    ``save`` and ``export_block``: describe, check, write, read back, compare

Imports ``file``. A ``call`` is one block of the chain with what went in and came out, a ``twin``
the copy of a block that ran in place of it, a ``note`` a value that changed when it was written, a
``plan`` all that is to be written.
"""
