"""The language that step functions and kernels are written in: Triton, or a stand-in for it.

Everything under ``kernels/`` takes ``jit`` and ``tl`` from here. Where Triton cannot be imported
(macOS, Windows) the stand-in keeps the source of a function without compiling it, so that the CPU
executor, which only needs the source, still works.
"""

import os

BACKENDS = ("auto", "reference", "interpret")
BACKEND = os.environ.get("LAPILLI_BACKEND", "auto")
if BACKEND not in BACKENDS:
    raise ValueError(
        f"LAPILLI_BACKEND is {BACKEND!r}; expected one of {', '.join(BACKENDS)}. "
        "Unset it to use Triton on GPUs and compiled loops on the CPU."
    )
if BACKEND == "interpret":
    # Triton reads this when a kernel is decorated, so it must be set before the first one is.
    os.environ["TRITON_INTERPRET"] = "1"

# Sizes and other integers of kernels. Triton would compile a kernel again for each of them that is
# 1 or a multiple of 16: for another batch size, number of steps or threshold.
WHOLE_NUMBERS = (
    "per", "per_bias", "words", "theta", "step", "limit", "lag", "start", "N", "T", "C", "M",
    "span", "from_c", "from_h", "from_w", "to_c", "to_h", "to_w", "margin_y", "margin_x",
)  # fmt: skip

try:
    import triton
    import triton.language as tl

    HAS_TRITON = True

    def jit(fn):
        """Decorate a kernel, or a function of kernels, for Triton."""
        return triton.jit(fn, do_not_specialize=WHOLE_NUMBERS)

except ImportError:
    HAS_TRITON = False

    class _Source:
        """A decorated function of which only the source is used."""

        def __init__(self, fn):
            self.fn = fn
            self.__name__ = fn.__name__

    def jit(fn):
        """Stand in for ``triton.jit``: keep the function, compile nothing."""
        return _Source(fn)

    class tl:
        """Names that are evaluated when a kernel module is imported."""

        class constexpr:
            """A compile-time constant."""

            def __init__(self, value):
                self.value = value


def is_jit(obj: object) -> bool:
    """Whether ``obj`` is a function decorated with ``jit``."""
    return callable(getattr(obj, "fn", None)) and not isinstance(obj, type)
