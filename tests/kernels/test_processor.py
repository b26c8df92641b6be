import pytest
from lapilli.kernels.executors import processor


@pytest.fixture
def described(monkeypatch, tmp_path):
    """Let a folder describe the caches."""
    monkeypatch.setattr(processor, "_CACHES", tmp_path)
    processor.second_level_cache.cache_clear()
    yield tmp_path
    processor.second_level_cache.cache_clear()


def write(folder, level, size):
    cache = folder / f"index{level}"
    cache.mkdir()
    (cache / "level").write_text(f"{level}\n")
    (cache / "size").write_text(f"{size}\n")


@pytest.mark.parametrize(
    ("size", "bytes"), [("512K", 1 << 19), ("2M", 1 << 21), ("1280K", 1310720)]
)
def test_the_second_level_cache_is_that_of_the_system(described, size, bytes):
    write(described, 1, "32K")
    write(described, 3, "64M")
    write(described, 2, size)
    assert processor.second_level_cache() == bytes


@pytest.mark.parametrize("size", [None, "", "large"])
def test_a_system_that_does_not_tell_has_a_usual_cache(described, size):
    write(described, 1, "32K")
    if size is not None:
        write(described, 2, size)
    assert processor.second_level_cache() == 1 << 21
