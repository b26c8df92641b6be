"""Parameters and buffers whose size is known at the first forward, or from a checkpoint."""

from typing import Any

import torch


class LazySize:
    """Mixin of modules with entries of size 1 that become one value a channel.

    ``load_state_dict`` takes the size of the checkpoint for the entries named in ``lazy_sizes``
    and calls ``_sized(name)``, so that a trained checkpoint loads into a fresh module and the
    first forward does not draw the values again. One value loads into a sized entry by broadcast.
    """

    lazy_sizes: tuple[str, ...] = ()

    def _sized(self, name: str) -> None:
        """Note that an entry has its final size."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self.lazy_sizes:
            saved = state_dict.get(prefix + name)
            entry = getattr(self, name, None)
            if saved is None or entry is None:
                continue
            if entry.numel() == 1 and saved.shape != entry.shape:
                entry.data = entry.data.new_zeros(saved.shape)
            elif saved.numel() == 1 and entry.numel() > 1:
                state_dict[prefix + name] = saved = saved.expand_as(entry)
            if saved.numel() > 1:
                self._sized(name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]


def resize(entry: torch.Tensor, values: torch.Tensor) -> None:
    """Give a parameter or buffer other values and another size; the object stays the same."""
    entry.data = values.to(device=entry.device, dtype=entry.dtype)
