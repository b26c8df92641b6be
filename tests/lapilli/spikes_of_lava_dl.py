"""Spikes and labels of the values that lava-dl gave."""

import torch

_n, _c, _t = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(8), indexing="ij")
S = ((3 * _c + 5 * _t + 2 * _n) % 7 < 3).float()  # [N, K, T]
D = ((2 * _c + 3 * _t + _n) % 5 < 2).float()  # [N, K, T]
LABELS = torch.tensor([1, 2])
LABELS_IN_TIME = torch.tensor([[1] * 4 + [0] * 4, [2] * 6 + [1] * 2])
ONE_HOT = torch.nn.functional.one_hot(LABELS, 3)  # [N, K]
