"""Every feature of torch on every cell, against the cell as it is."""

import pytest
from cells import CELLS, FEW
from features import FEATURES

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
