"""Typeset the equations of docstrings and pages, which are written in plain text, as MathML.

Browsers draw MathML themselves, so that the site needs no script, no font and no network. A block
is one equation a line; cells that stand two spaces apart are columns. What does not read as an
equation, such as a remark beside one, stays text:

    u[t] = D(u[t-1], a_u) + x[t]               synaptic current

Products are written side by side, ``a_u`` is a with the index u, ``**`` and ``^`` raise, ``/``
makes a fraction of all factors before it, and ``x if c else y`` becomes a case distinction.
"""

import html
import re

_GREEK = {name: f"&{name};" for name in ("theta", "rho", "tau", "phi", "pi")}
_PRIME, _MINUS = "&prime;", "&minus;"
_FUNCTIONS = {"trunc", "exp", "sign", "min", "max", "clip", "round", "cosh", "cos", "sin"}
_WORDS = {  # names of more than one letter that may stand in an equation
    "th", "out", "step", "scale", "bias", "room", "memory", "delay", "sampling_time", "grad_scale",
    "scale_grad", "scale_rho", "quantize", "quantize_8bit", "height",
}  # fmt: skip
_RELATIONS = {"=": "=", ">=": "≥", "<=": "≤", ">": "&gt;", "<": "&lt;", "!=": "≠"}
_KEYWORDS = {"if", "else", "where"}
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[A-Za-z]\w*'?|\*\*|>=|<=|!=|[-+*/^=<>()\[\],|])")


class NotAnEquationError(ValueError):
    """A text that does not read as an equation."""


def _mo(sign: str) -> str:
    return f"<mo>{sign}</mo>"


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _name(name: str) -> str:
    """Typeset a name: one letter, possibly Greek, with indices after each underscore; or a word."""
    prime = name.endswith("'")
    bare = name.rstrip("'")
    base, _, index = bare.partition("_")
    if bare in _WORDS or bare in _FUNCTIONS:
        found = f'<mi mathvariant="normal">{bare}</mi>'
    elif len(base) == 1 or base in _GREEK:
        found = f"<mi>{_GREEK.get(base, base)}</mi>"
        if index:
            alone = len(index) > 1 and index not in _GREEK and "_" not in index
            inner = f'<mi mathvariant="normal">{index}</mi>' if alone else _name(index)
            found = f"<msub>{found}{inner}</msub>"
    else:
        raise NotAnEquationError(name)
    return f"<msup>{found}{_mo(_PRIME)}</msup>" if prime else found


class _Reader:
    """Reads one equation by recursive descent; each method returns MathML."""

    def __init__(self, text: str):
        self.tokens: list[str] = []
        self.spaced: list[bool] = []
        at = 0
        text = text.rstrip(" ,;")
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise NotAnEquationError(text)
            self.tokens.append(found[1])
            self.spaced.append(text[at].isspace())
            at = found.end()
        self.at = 0
        self.in_bars = False

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise NotAnEquationError(token)
        self.at += 1
        return token

    def whole(self) -> str:
        parts = [self.relation()]
        while self.peek() == ",":
            self.take()
            parts += [_mo(","), '<mspace width="0.6em"/>', self.relation()]
        if self.peek():
            raise NotAnEquationError(self.peek())
        return _row(*parts)

    def relation(self) -> str:
        parts = [] if self.peek() == "=" else [self.case()]
        while self.peek() in _RELATIONS:
            parts += [_mo(_RELATIONS[self.take()]), self.case()]
        return _row(*parts)

    def case(self) -> str:
        value = self.sum()
        if self.peek() not in ("if", "where"):
            return value
        self.take()
        condition = self.relation()
        if self.peek() == ",":
            self.take()
        if self.peek() != "else":
            return _row(value, "<mtext>&#160;where&#160;</mtext>", condition)
        self.take()
        cell = '<mtd style="text-align: left">{}</mtd>'.format
        rows = ((value, f"<mtext>if&#160;</mtext>{condition}"), (self.sum(), "<mtext>else</mtext>"))
        table = "".join(f"<mtr>{cell(a)}{cell(b)}</mtr>" for a, b in rows)
        return _row('<mo fence="true" stretchy="true">{</mo>', f"<mtable>{table}</mtable>")

    def sum(self) -> str:
        parts = []
        if self.peek() in ("-", "+"):
            parts.append(_mo(_MINUS if self.take() == "-" else "+"))
        parts.append(self.product())
        while self.peek() in ("-", "+"):
            parts += [_mo(_MINUS if self.take() == "-" else "+"), self.product()]
        return _row(*parts)

    def product(self) -> str:
        """Read factors; those before a slash are its numerator."""
        parts, bare = [self.factor()], self.bare
        while True:
            token = self.peek()
            if token == "/":
                self.take()
                above = bare if len(parts) == 1 else _row(*parts)
                self.factor()
                parts = [f"<mfrac>{above}{self.bare}</mfrac>"]
                bare = parts[0]
            elif token == "*":
                self.take()
                parts += [_mo("·"), self.factor()]
            elif self._begins_factor(token):
                parts += ['<mspace width="0.15em"/>', self.factor()]
            else:
                return _row(*parts)

    def _begins_factor(self, token: str) -> bool:
        if token == "|":
            return not self.in_bars
        return token == "(" or (token[:1].isalnum() and token not in _KEYWORDS)

    def factor(self) -> str:
        """Read an atom and its exponent; ``bare`` is the same without its outer parentheses."""
        found = self.atom()
        while self.peek() in ("**", "^"):
            self.take()
            power = self.atom()
            found = self.bare = f"<msup>{found}{power}</msup>"
        return found

    def atom(self) -> str:
        token = self.take()
        if token == "(":
            outside, self.in_bars = self.in_bars, False
            inner = self.relation()
            self.in_bars = outside
            self.take(")")
            self.bare = inner
            return _row(_mo("("), inner, _mo(")"))
        if token == "|":
            self.in_bars = True
            inner = self.sum()
            self.in_bars = False
            self.take("|")
            found = _row(_mo("|"), inner, _mo("|"))
        elif token[0].isdigit():
            found = f"<mn>{token}</mn>"
        elif token in ("sum", "sum_t"):
            sign = '<mo largeop="true">∑</mo>'
            below = f"<munder>{sign}<mi>t</mi></munder>" if token == "sum_t" else sign
            found = _row(below, self.product())
        elif token[0].isalpha() and token not in _KEYWORDS:
            found = self._applied(token)
        else:
            raise NotAnEquationError(token)
        self.bare = found
        return found

    def _applied(self, name: str) -> str:
        """Read what follows a name without a space: the step in brackets, or arguments."""
        found = "" if name == "floor" else _name(name)
        if self.peek() == "[":
            self.take()
            found = _row(found, _mo("["), self.sum(), _mo("]"))
            self.take("]")
        if self.peek() == "(" and not self.spaced[self.at]:
            self.take()
            outside, self.in_bars = self.in_bars, False
            given = [self.relation()]
            while self.peek() == ",":
                self.take()
                given += [_mo(","), self.relation()]
            self.in_bars = outside
            self.take(")")
            ends = ("⌊", "⌋") if name == "floor" else ("(", ")")
            found = _row(found, _mo(ends[0]), *given, _mo(ends[1]))
        if not found:
            raise NotAnEquationError(name)
        return found


def mathml(text: str) -> str:
    """Return an equation as the inside of a ``<math>`` element.

    Raises
    ------
    NotAnEquationError
        If it does not read as one, for instance because it has words in it.
    """
    if not re.search(r"[=<>(\[|]", text):
        raise NotAnEquationError(text)
    return _Reader(text).whole()


def _reads(text: str) -> bool:
    """Tell whether a text reads as an equation."""
    try:
        return bool(mathml(text))
    except NotAnEquationError:
        return False


def _math(inside: str) -> str:
    return f'<math displaystyle="true">{inside}</math>'


def _cell(text: str) -> tuple[str, bool]:
    """Typeset a cell, or as much of its beginning as reads as an equation; also whether any did."""
    ends = [len(text), *(m.start() for m in reversed(list(re.finditer(r"[,;]", text))))]
    for end in ends:
        try:
            found = _math(mathml(text[:end]))
        except NotAnEquationError:
            continue
        rest = text[end:]
        return found + (f"<span>{html.escape(rest)}</span>" if rest.strip(" ,;") else ""), True
    return f"<span>{html.escape(text)}</span>", False


def _cells(line: str) -> list[str]:
    """Return the columns of a line; one that goes on with an equation belongs to that before."""
    found: list[str] = []
    for cell in re.split(r" {2,}", line.strip()):
        goes_on = found and (re.match(r"=|if ", cell) or (found[-1][-1] == "," and _reads(cell)))
        if goes_on:
            found[-1] += " " + cell
        else:
            found.append(cell)
    return found


def typeset(block: str) -> str | None:
    """Return a block as an HTML table; None if most of its lines hold no equation."""
    lines = [_cells(line) for line in block.splitlines() if line.strip()]
    sides = [line[0].partition(" = ") for line in lines]
    if all(right and _reads(f"{left} = 0") for left, _, right in sides):
        kind = "equations split"  # so that the equations stand below each other
        rows = [
            [_math(_Reader(left).whole()), _right(right), *(_cell(text)[0] for text in line[1:])]
            for (left, _, right), line in zip(sides, lines, strict=True)
        ]
    else:
        kind = "equations"
        found = [[_cell(text) for text in line] for line in lines]
        if 2 * sum(any(is_math for _, is_math in line) for line in found) <= len(lines):
            return None
        rows = [[text for text, _ in line] for line in found]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="{kind}"><table>{body}</table></div>'


def _right(text: str) -> str:
    """Typeset the right side of an equation, which may be words."""
    found, is_math = _cell(f"= {text}")
    return found if is_math else f"{_math(_mo('='))} {_cell(text)[0]}"
