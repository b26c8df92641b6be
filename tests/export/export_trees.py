"""What the export tests look at in a file."""

import h5py
import numpy as np

from lapilli import export


def datasets(group):
    """Every dataset below a group, by path."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    group.visititems(visit)
    return found


def tree(path):
    """Every dataset and attribute of a file."""
    with h5py.File(path) as file:
        found = datasets(file) | {f"@{k}": v for k, v in file.attrs.items()}
        file.visititems(lambda n, g: found.update({f"{n}@{k}": v for k, v in g.attrs.items()}))
    return found


def assert_same_tree(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name, strict=True)


def saved(net, tmp_path, **options):
    """Save a network and return the datasets of the file."""
    export.save(net, tmp_path / "a.net", **options)
    with h5py.File(tmp_path / "a.net") as file:
        return datasets(file)
