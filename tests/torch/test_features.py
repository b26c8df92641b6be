"""Every feature of torch on every cell, against the cell as it is."""

import pytest
from cells import CELLS
from features import FEATURES

# what takes long for every cell is tried on these families, and on all in continuous integration
_QUICK = ("cuba", "rf", "sigma_delta")
_LONG = ("compile", "export", "make_fx", "func")


def _cases():
    for feature in FEATURES:
        for family, kind in CELLS:
            slow = feature.name.startswith(_LONG) and family not in _QUICK
            yield pytest.param(
                feature, family, kind, id=f"{feature.name}-{family}-{kind}",
                marks=[pytest.mark.slow] if slow else [],
            )  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch's own, about what it traces
@pytest.mark.parametrize(("feature", "family", "kind"), list(_cases()))
def test_feature(feature, family, kind):
    if feature.refuses(family, kind):
        with pytest.raises((RuntimeError, TypeError), match=feature.error):
            feature.check(family, kind)
    else:
        feature.check(family, kind)
