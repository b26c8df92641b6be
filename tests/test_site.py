"""The documentation builds without a warning, and nothing in it leads nowhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

ROOT = Path(__file__).parent.parent


class Page(HTMLParser):
    """What a page links to, shows, and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[k] for k in ("id", "name") if given.get(k)}
        for key in ("href", "src"):
            if given.get(key) and tag != "base":
                self.links.append(given[key])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "--conf-dir", "docs", ".", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_every_link_and_picture_is_there(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 20
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            url = urlparse(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_file():
                wrong.append(f"{path.relative_to(site)}: {link}")
            elif url.fragment and target in pages and url.fragment not in pages[target].names:
                wrong.append(f"{path.relative_to(site)}: {link} (no such heading)")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_the_site_holds_what_the_library_has(site):
    def text(name):
        return (site / "docs" / "reference" / name).read_text()

    for family in ("cuba", "rf", "rf_iz", "alif", "adrf", "adrf_iz", "sigma_delta"):
        assert f'id="lapilli.blocks.{family}.Dense"' in text("blocks.html")
        assert f'id="lapilli.neurons.{family}.Neuron"' in text("neurons.html")
    assert 'id="lapilli.export.save"' in text("export.html")
    assert "lapilli train" in text("command-line.html")
    assert "u[t] = D(u[t-1], a_u) + x[t]" in text("kernels.html")


@pytest.mark.slow
def test_no_page_names_this_machine(site):
    for path in site.rglob("*.html"):
        assert str(ROOT) not in path.read_text(), path


def test_the_first_network_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/start.md").read_text(), flags=re.S)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("right:")[1]) > 0.9
    assert (tmp_path / "first.net").exists()
