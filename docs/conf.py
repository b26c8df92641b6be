"""How Sphinx makes the site: ``make docs``.

The source is the whole repository, so that links between documents and to source files are the same
here and in the repository. A link to a file that is no page downloads that file.
"""

import contextlib
import io
import re
import sys
import typing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import array_like  # noqa: F401 (before lapilli)
import equations
import inventories
import tutorials
from docutils import nodes
from sphinx.util.typing import stringify_annotation

import lapilli
from lapilli.program.arguments import parser as build_parser

ROOT = Path(__file__).resolve().parents[1]

project = "lapilli"
version = release = lapilli.__version__
html_title = f"lapilli {version}"
copyright = "the authors of lapilli"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = [
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "bench/README.md",
    "bench/results/*.md", "examples/README.md",
]  # fmt: skip
exclude_patterns = ["docs/*.py"]
myst_heading_anchors = 4
myst_links_external_new_tab = True
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["lapilli.css"]
html_extra_path = ["redirect"]  # to the start page, from the top of the site
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"  # docstrings give shapes and units
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "exclude-members": "neurons"}
viewcode_follow_imported_members = False
intersphinx_mapping = inventories.mapping(ROOT / "build" / "inventories")
napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes that are properties as well are described once
napoleon_use_rtype = False


def typeset_equations(app, doctree):
    """Draw the blocks of plain text that hold equations, of docstrings and of pages."""
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") in ("text", "none") and "output" not in block["classes"]:
            drawn = equations.typeset(block.astext())
            if drawn is not None:
                block.replace_self(nodes.raw("", drawn, format="html"))


def say_returns_once(app, domain, kind, content):
    """Drop the annotation of what is returned where the docstring says type and meaning."""
    for fields in content.findall(nodes.field_list):
        by_name = {field[0].astext(): field for field in fields.findall(nodes.field)}
        if "returns" in by_name and "rtype" in by_name:
            fields.remove(by_name["rtype"])


def types_of_the_constructor(app, what, name, obj, options, lines):
    """Let arguments have their own types: Sphinx takes those of attributes of the same name."""
    if what == "class" and "__init__" in vars(obj):
        with contextlib.suppress(NameError):  # of what is imported for type checkers only
            hints = typing.get_type_hints(obj.__init__)
            given = {n: stringify_annotation(h, "smart") for n, h in hints.items() if n != "return"}
            app.env.current_document.autodoc_annotations.setdefault(name, {}).update(given)


def one_name_an_entry(app, what, name, obj, options, lines):
    """Describe attributes that share an entry, ``a, b``, one by one, which napoleon cannot."""
    if "Attributes" not in lines:
        return
    first = lines.index("Attributes") + 2
    after = [i for i in range(first, len(lines)) if lines[i].startswith("---")]
    end = after[0] - 1 if after else len(lines)
    found: list[str] = []
    at = first
    while at < end:
        stop = at + 1
        while stop < end and (not lines[stop].strip() or lines[stop].startswith(" ")):
            stop += 1
        names, colon, kind = lines[at].partition(" : ")
        for each in names.split(", "):
            found += [each + colon + kind, *lines[at + 1 : stop]]
        at = stop
    lines[first:end] = found


def equations_stay(app, what, name, obj, options, lines):
    """Keep indented paragraphs of a docstring as they are: equations and tables in plain text."""
    kept: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if what == "module" and indented and not inside and (not kept or not kept[-1].strip()):
            kept += [".. code-block:: text", ""]
            inside = True
        elif line.strip() and not indented:
            inside = False
        if what == "module" and not inside:
            line = line.replace("|", r"\|")  # of an absolute value
        kept.append(line)
    lines[:] = kept


def link_to_pages(app, docname, source):
    """Let links to the script of a tutorial lead to its page, except those of the pages."""
    if not docname.startswith("docs/tutorials/"):
        way = "../" * docname.count("/") + "docs/tutorials/"
        pattern = r"\]\((?:\.\./)*(?:examples/)?tutorials/(\w+)\.py\)"
        source[0] = re.sub(pattern, rf"]({way}\1.md)", source[0])


_STATUS = """Completion: `pip install shtab`, then add `eval "$(lapilli completion bash)"` to
`~/.bashrc`, or for zsh write `lapilli completion zsh > FOLDER/_lapilli` with a folder of `$fpath`.

| exit status | what it means |
| --- | --- |
| 0 | done |
| 1 | the network cannot be deployed (`check`), or its file differs from it (`train`) |
| 2 | wrong input; one line says what was given, what is expected and how to mend it |
| 130 | interrupted by Ctrl-C; `train` has written what it had |
| 141 | nobody reads the output any more, as behind a closed pipe |
"""


def write_help(app):
    """Write the page of the command line from its parser."""
    parser = build_parser()
    commands = next(a for a in parser._actions if hasattr(a, "choices") and a.choices)
    parts = ["# Command line", "", "```text", _help(parser), "```", ""]
    for name, command in commands.choices.items():
        parts += [f"## lapilli {name}", "", "```text", _help(command), "```", ""]
    page = ROOT / "docs/reference/command-line.md"
    parts.insert(2, _STATUS)
    text = "\n".join(parts)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def _help(parser) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        parser.print_help()
    return re.sub(r"[ \t]+$", "", out.getvalue(), flags=re.M).rstrip()


def setup(app):
    """Connect what is above to Sphinx."""
    app.connect("autodoc-process-docstring", one_name_an_entry, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", equations_stay)
    app.connect("autodoc-process-docstring", types_of_the_constructor)
    app.connect("object-description-transform", say_returns_once, priority=900)
    app.connect("doctree-read", typeset_equations)
    app.connect("source-read", link_to_pages)
    app.connect("builder-inited", write_help)
    app.connect("builder-inited", lambda app: tutorials.make_all())
    sys.path.insert(0, str(ROOT))
