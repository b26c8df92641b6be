"""Every feature of torch on every cell, against the cell as it is."""

import pytest
from cells import CELLS, KINDS
from features import FEATURES

# what takes long is tried on every kind of one family, and on all cells in continuous integration
_QUICK = "cuba"
_LONG = ("compile", "checkpoint, reentrant", "export", "make_fx", "func")
# What takes longest is tried there on every kind of one family and, of the other families, on the
# kinds that hold the neurons' operators; a night tries the rest, whose parts these are.
_LONGEST = ("compile, dynamic", "compile, state")
_PARTS = ("Dense", "Recurrent")


def _marks(feature, family, kind):
    if feature.name in _LONGEST:
        first = KINDS[kind].families[0]
        return pytest.mark.slow if family == first or kind in _PARTS else pytest.mark.night
    quick = not feature.name.startswith(_LONG) or family == _QUICK
    return () if quick else pytest.mark.slow


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
