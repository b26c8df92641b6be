"""Exceptions and warnings of network files."""

__all__ = ["LayerError", "NetworkFileError", "NetxCompatibilityWarning", "QuantisationWarning"]


class NetworkFileError(ValueError):
    """A network file that cannot be read; the message names the file and the dataset."""


class NetxCompatibilityWarning(UserWarning):
    """The file is complete, but lava netx will refuse this layer or run it differently."""


class QuantisationWarning(UserWarning):
    """Written values differ from the stored parameters: clamped or rounded to 8 bit."""


class LayerError(ValueError):
    """A layer that the format cannot hold: the dataset and what is wrong with it.

    Writer and reader share the checks; each adds where the layer is before it reports the error.
    """

    def __init__(self, dataset: str, problem: str):
        super().__init__(f"{dataset}: {problem}")
        self.dataset = dataset
        self.problem = problem
