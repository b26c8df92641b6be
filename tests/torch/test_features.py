"""Every feature of torch on every cell, against the cell as it is."""

import pytest
from cells import CELLS
from features import FEATURES

# what takes long is tried on every kind of one family, and on all cells in continuous integration
_QUICK = "cuba"
_LONG = ("compile", "export", "make_fx", "func")
_LONGEST = ("compile, dynamic", "compile, state")


def _cases():
    for feature in FEATURES:
        for family, kind in CELLS:
            quick = not feature.name.startswith(_LONG) or family == _QUICK
            slow = not quick or feature.name in _LONGEST
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
