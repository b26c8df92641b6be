"""The documentation builds without a warning, and nothing in it leads nowhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import equations
import pytest
from known import present

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
    for page in ("neurons.html", "kernels.html"):  # equations, drawn by the browser
        assert text(page).count("<math") > 20
        assert "u[t] = D(" not in text(page)
    for address in (
        "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor",
        "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html#numpy.ndarray",
        "https://docs.h5py.org/en/stable/high/group.html#h5py.Group",
    ):
        assert any(address in text(page) for page in ("data.html", "kernels.html", "export.html"))


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


def shown(mathml):
    """What a reader sees of MathML, in one line: indices in braces, fractions with a bar."""
    text = re.sub(r"<msub>(.*?)</msub>", r"\1", mathml)
    text = re.sub(r"<mfrac><mrow>(.*?)</mrow><mrow>(.*?)</mrow></mfrac>", r"{\1 over \2}", text)
    return re.sub(r"<[^>]+>", "", text).replace("&minus;", "-").replace("&#160;", " ")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("v[t] = D(w[t-1], a_v) + u[t]", "v[t]=D(w[t-1],av)+u[t]"),
        ("w[t] = 0 if s[t] else v[t]", "w[t]={0if s[t]v[t]else"),
        ("out[t] = floor(y[t] scale) / 2", None),
        ("g_x[t] = |d| >= theta,  y = x**2", "gx[t]=|d|≥&theta;,y=x2"),
    ],
)
def test_an_equation_is_typeset(text, read):
    found = equations.mathml(text)
    assert read is None or shown(found) == read
    root = ElementTree.fromstring(f"<math>{found.replace('&', '_')}</math>")
    assert len(list(root.iter())) > 10


def test_a_fraction_takes_all_factors_before_it():
    found = equations.mathml("x = -2 a b / (c + d) e")
    root = ElementTree.fromstring(f"<math>{found.replace('&', '_')}</math>")
    (fraction,) = root.iter("mfrac")
    above, below = ("".join(part.itertext()) for part in fraction)
    assert (above, below) == ("2ab", "c+d")


@pytest.mark.parametrize(
    "text", ["the spike", "x = what comes after", "s[t", "a = / b", "", "a = |b"]
)
def test_what_is_no_equation_stays_text(text):
    with pytest.raises(equations.NotAnEquationError):
        equations.mathml(text)


def test_a_block_has_its_remarks_beside_its_equations():
    block = "    y[t] = x[t] if x[t] >= 0 else 0      what is sent\n    z = y     = x[t]\n"
    rows = re.findall(r"<tr>(.*?)</tr>(?=<tr>|</table>)", present(equations.typeset(block)))
    assert len(rows) == 2
    assert rows[0].endswith("<td><span>what is sent</span></td>")
    assert equations.typeset("    make demo    # trains\n    make test\n") is None
