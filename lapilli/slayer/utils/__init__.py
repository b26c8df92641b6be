"""Statistics, training, filters, quantisation; the function ``quantize`` hides its module."""

from . import assistant, filter, int_utils, recurrent, stats, time, utils
from .assistant import Assistant
from .quantize import MODE as QUANTIZE_MODE
from .quantize import quantize, quantize_hook_fx
from .stats import LearningStat, LearningStats
from .utils import diagonal_mask, dotdict, event_rate, staticproperty

__all__ = [
    "QUANTIZE_MODE",
    "Assistant",
    "LearningStat",
    "LearningStats",
    "assistant",
    "diagonal_mask",
    "dotdict",
    "event_rate",
    "filter",
    "int_utils",
    "quantize",
    "quantize_hook_fx",
    "recurrent",
    "staticproperty",
    "stats",
    "time",
    "utils",
]
