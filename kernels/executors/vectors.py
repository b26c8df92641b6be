"""How vector instructions are built: loads, constants, comparisons, loops that carry vectors.

These are functions for the builder of an intrinsic's code; what they return is LLVM's.
"""

from llvmlite import ir

LONG, FLOAT = ir.IntType(64), ir.FloatType()
SIDE = 16  # lanes of most vectors
LINE = 64  # bytes of a cache line


def pointer_to(context, builder, array_type, array, at, lanes):
    """Point to ``lanes`` elements of an array from ``at`` on."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(data.type.pointee, lanes)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def repeated(builder, value, lanes):
    """Return a vector of ``lanes`` times ``value``."""
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(LONG, 0)
    )
    places = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, places)


def loop(builder, start, end, carried, step):
    """Build a loop that carries values: ``step(i, carried)`` returns the next ones."""
    before = builder.block
    head, body, done = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(LONG)
    held = [builder.phi(value.type) for value in carried]
    for phi, value in zip((i, *held), (start, *carried), strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", i, end), body, done)
    builder.position_at_end(body)
    updated = step(i, held)
    following = builder.add(i, ir.Constant(LONG, 1))
    for phi, value in zip((i, *held), (following, *updated), strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return held


def alignment(element):
    """Bytes that an element begins at a multiple of."""
    return 4 if element == FLOAT else max(1, element.width // 8)


def load(context, builder, array_type, array, at, lanes):
    """Load ``lanes`` elements of an array of float32, integers or bool."""
    loaded = builder.load(pointer_to(context, builder, array_type, array, at, lanes))
    loaded.align = alignment(loaded.type.element)
    return loaded


def unequal(builder, vector, value):
    """Compare a vector with a constant, lane by lane; what is not a number differs."""
    constant = ir.Constant(vector.type, [value] * vector.type.count)
    if vector.type.element == FLOAT:
        return builder.fcmp_unordered("!=", vector, constant)
    return builder.icmp_signed("!=", vector, constant)
