"""Which of lapilli's operators run, with what and what they return."""

from torch.utils._python_dispatch import TorchDispatchMode


class OperatorCalls(TorchDispatchMode):
    """Record ``(operator, arguments, outputs)`` of each call while it is entered."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        outputs = op(*args, **(kwargs or {}))
        if op.namespace == "lapilli":
            self.calls.append((op, args, outputs))
        return outputs
