"""What other projects' documentation has, as far as ours names it, in the form of intersphinx.

Their own inventories would have to be fetched each time the site is built. ``inventories/`` holds
one text file a project: its address, and a line for each object with name, kind and page. Where
the anchor is not the object's name, as Python may know it under another, it follows after a ``#``.
"""

import zlib
from pathlib import Path

_FOLDER = Path(__file__).parent / "inventories"


def mapping(folder: Path) -> dict[str, tuple[str, str]]:
    """Write the inventories as Sphinx reads them; returns the value of intersphinx_mapping."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for source in sorted(_FOLDER.glob("*.txt")):
        address, *objects = source.read_text(encoding="utf-8").split("\n")
        lines = []
        for name, kind, page in (line.split() for line in objects if line):
            where = page if "#" in page else f"{page}#$"
            lines.append(f"{name} {kind} 1 {where} -\n")
        head = f"# Sphinx inventory version 2\n# Project: {source.stem}\n# Version: stable\n"
        head += "# The remainder of this file is compressed using zlib.\n"
        target = folder / f"{source.stem}.inv"
        target.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))
        found[source.stem] = (address, str(target))
    return found
