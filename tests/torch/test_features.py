"""Every feature of torch on every cell, against the cell as it is."""

import pytest
import torch
from cells import CELLS, FEW, events, make, same
from features import FEATURES
from torch.fx.experimental.proxy_tensor import make_fx

pytestmark = pytest.mark.turns

# what takes long is tried at once on the kinds of one family that differ most, the rest on more
_QUICK = [("cuba", kind) for kind in ("Dense", "Recurrent")]
_LONG = ("compile", "checkpoint, reentrant", "export", "make_fx", "func")
_LONGEST = ("compile, dynamic", "compile, state", "compile, checkpoint")


def _marks(feature, family, kind):
    quick = (family, kind) in (_QUICK if feature.name.startswith(_LONG) else FEW)
    return () if quick and feature.name not in _LONGEST else pytest.mark.slow


def _cases():
    for feature in FEATURES:
        for family, kind in CELLS:
            yield pytest.param(
                feature, family, kind, id=f"{feature.name}-{family}-{kind}",
                marks=_marks(feature, family, kind),
            )  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch's own, about what it traces
@pytest.mark.parametrize(("feature", "family", "kind"), list(_cases()))
def test_feature(feature, family, kind):
    if feature.refuses(family, kind):
        with pytest.raises((RuntimeError, TypeError), match=feature.error):
            feature.check(family, kind)
    else:
        feature.check(family, kind)


@pytest.mark.filterwarnings("ignore")  # torch's own, as above
@pytest.mark.parametrize("family", ["cuba", "rf"])
def test_a_graph_of_make_fx_writes_to_no_parameter(family):
    mask = torch.tensor([[1, 0, 1, 0, 1, 1]] * 5)
    block = make(family, "Dense", {"requires_grad": True}, delay=True, mask=mask)
    x = events("Dense")
    block(x)
    graph = make_fx(block)(x)
    with torch.no_grad():
        block.delay.delay.sub_(20)  # out of their range
        for weight in block.synapse.parameters():
            weight.add_(1)  # also where the mask is 0
    stored = {name: p.detach().clone() for name, p in block.named_parameters()}
    got = graph(x)
    for name, parameter in block.named_parameters():
        same(parameter.detach(), stored[name])
    same(got, block(x))
    assert (block.delay.delay >= 0).all()
