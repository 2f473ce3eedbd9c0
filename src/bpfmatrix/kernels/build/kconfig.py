"""The Kconfig files of a source tree: its options, and why an option can't have a value.

This reader of Kconfig files (Documentation/kbuild/kconfig-language.rst) answers these two questions
only. The source tree's own `conf` decides on the configuration. kconfiglib would answer them too,
but can't read source trees from 6.1 on (`modules`, `transitional`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Definition", "Kconfig", "load"]

_BLOCK = re.compile(r"(config|menuconfig|choice|comment|menu|if|endif|endmenu|endchoice)\b\s*(.*)")
_SOURCE = re.compile(r"(?:o|r|or)?source\s+\"([^\"]+)\"")
_ATTRIBUTE = re.compile(
    r"(depends on|visible if|select|prompt|bool|tristate|string|int|hex)\b\s*(.*)"
)
_PROMPT_IF = re.compile(r"\".*\"\s+if\s+(.*)")
_TOKEN = re.compile(
    r"\s*(&&|\|\||!=|<=|>=|!|=|<|>|\(|\)|\"(?:[^\"\\]|\\.)*\"|'[^']*'|\$\((?:[^()]|\([^()]*\))*\)|[\w./-]+)"
)
_RANK = {"n": 0, "m": 1, "y": 2}


@dataclass
class Definition:
    """One place that defines an option."""

    depends: list[str]
    """Expressions that must all be true: its own, and those of the menus around it."""
    prompt: bool = False
    prompt_if: str = ""
    in_choice: bool = False


@dataclass
class Kconfig:
    """The options of a source tree, for one architecture."""

    symbols: dict[str, list[Definition]] = field(default_factory=dict)
    selects: dict[str, list[str]] = field(default_factory=dict)
    """The options that select an option, by the name of the selected one."""

    def why_not(self, name: str, wanted: str, result: Mapping[str, str]) -> str:
        """Say why an option does not have a value, given the values of all options."""
        selecting = [by for by in self.selects.get(name, []) if result.get(by, "n") != "n"]
        if wanted == "n" and selecting:
            return f"{', '.join(selecting)} selects it"
        reasons = [_unmet(each, result) for each in self.symbols[name]]
        unmet = min((each for each in reasons if each), key=len, default=[])
        if unmet and all(reasons):
            return "it needs " + " and ".join(unmet)
        if not any(each.prompt for each in self.symbols[name]):
            by = ", ".join(self.selects.get(name, [])[:6])
            return f"it can't be asked for; it is selected by {by or 'no other option'}"
        if any(each.in_choice for each in self.symbols[name]):
            return "another option of its choice is set"
        return "what it needs could not be found out; see its `depends on` in Kconfig"

    def is_possible(self, name: str, result: Mapping[str, str], depth: int = 8) -> bool:
        """Whether some configuration of this version and architecture could have the option.

        By the kernel's convention, options named HAVE_* and ARCH_* say what an architecture can do,
        and can't be asked for. `depth` limits how far dependencies are followed.
        """
        for definition in self.symbols.get(name, []):
            terms = _unmet_terms(definition, result)
            if all(self._can_hold(term, result, depth) for term in terms):
                return True
        return False

    def _can_hold(self, term: str, result: Mapping[str, str], depth: int) -> bool:
        names = [name for name in _names(term) if result.get(name, "n") == "n"]
        return (
            depth == 0
            or not names
            or any(
                not name.startswith(("HAVE_", "ARCH_"))
                and self.is_possible(name, result, depth - 1)
                for name in names
            )
        )


def _unmet(definition: Definition, result: Mapping[str, str]) -> list[str]:
    """Return the conditions that are not met, each with the values of its options."""
    return [_described(term, result) for term in _unmet_terms(definition, result)]


def _unmet_terms(definition: Definition, result: Mapping[str, str]) -> list[str]:
    wanted = [*definition.depends, *([definition.prompt_if] if definition.prompt_if else [])]
    terms = (term for expression in wanted for term in _terms(expression))
    return list(dict.fromkeys(term for term in terms if evaluate(term, result) == 0))


def _names(term: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\b[A-Z][A-Z0-9_]+\b", term)))


def _described(term: str, result: Mapping[str, str]) -> str:
    said = ", ".join(f"{name} is {result.get(name, 'n')}" for name in _names(term))
    return f"{term} ({said})" if said else term


def _terms(expression: str) -> Iterator[str]:
    """Split an expression at each `&&` that is not in parentheses."""
    words, depth, term = _TOKEN.findall(expression), 0, list[str]()
    if "||" in _outermost(words):
        yield expression.strip()
        return
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "&&" and depth == 0:
            yield " ".join(term)
            term = []
        else:
            term.append(word)
    yield " ".join(term).replace("! ", "!").replace("( ", "(").replace(" )", ")")


def _outermost(words: list[str]) -> list[str]:
    depth, found = 0, []
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth == 0:
            found.append(word)
    return found


def evaluate(expression: str, result: Mapping[str, str]) -> int:
    """Return the value of an expression: 0, 1 or 2 for n, m or y.

    A macro (`$(cc-option,...)`) is not evaluated, and counts as y.
    """
    return _Evaluation(_TOKEN.findall(expression), result).value()


class _Evaluation:
    """A recursive descent parser of: or := and {|| and}; and := not {&& not}; not := [!] term."""

    def __init__(self, words: list[str], result: Mapping[str, str]) -> None:
        self._words, self._at, self._result = words, 0, result

    def value(self) -> int:
        found = self._and()
        while self._take("||"):
            found = max(found, self._and())
        return found

    def _and(self) -> int:
        found = self._not()
        while self._take("&&"):
            found = min(found, self._not())
        return found

    def _not(self) -> int:
        if self._take("!"):
            return 2 - self._not()
        if self._take("("):
            found = self.value()
            self._take(")")
            return found
        left = self._next()
        if self._peek() in ("=", "!=", "<", "<=", ">", ">="):
            return 2 if self._holds(self._text(left), self._next(), self._text(self._next())) else 0
        return 2 if left.startswith("$") else _RANK.get(self._text(left), 0)

    @staticmethod
    def _holds(left: str, relation: str, right: str) -> bool:
        if relation in ("=", "!="):
            return (left == right) == (relation == "=")
        try:
            one, other = int(left, 0), int(right, 0)
        except ValueError:
            return True
        return {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[
            relation
        ]

    def _text(self, word: str) -> str:
        if word in _RANK or word[:1].isdigit():
            return word
        return self._result.get(word, "n").strip('"') if word[:1] not in "\"'" else word[1:-1]

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _next(self) -> str:
        word = self._peek()
        self._at += 1
        return word

    def _take(self, word: str) -> bool:
        if self._peek() == word:
            self._at += 1
            return True
        return False


def load(tree: Path, srcarch: str) -> Kconfig:
    """Read a source tree's Kconfig files for an architecture as in `arch/` (`x86`, `arm64`)."""
    kconfig = Kconfig()
    _Reader(tree, srcarch, kconfig).read("Kconfig", [])
    return kconfig


class _Reader:
    def __init__(self, tree: Path, srcarch: str, kconfig: Kconfig) -> None:
        self._tree, self._srcarch, self._kconfig = tree, srcarch, kconfig
        self._choices = 0

    def read(self, name: str, context: list[str]) -> None:
        name = name.replace("$(SRCARCH)", self._srcarch).replace("$SRCARCH", self._srcarch)
        path = self._tree / name
        if "$" in name or not path.is_file():
            return  # an optional file (`osource`), or a path with an unknown variable
        # For each open menu, `if` or choice, the conditions for all that is in it.
        open_blocks: list[list[str]] = [context]
        current: Definition | None = None
        of_block = False
        owner = ""
        for line in _lines(path):
            if match := _SOURCE.match(line):
                self.read(match[1], [each for block in open_blocks for each in block])
                current, of_block = None, False
            elif match := _BLOCK.match(line):
                current, of_block, owner = self._block(match[1], match[2], open_blocks)
            elif match := _ATTRIBUTE.match(line):
                self._attribute(match[1], match[2], current, open_blocks if of_block else [], owner)

    def _block(
        self, keyword: str, rest: str, open_blocks: list[list[str]]
    ) -> tuple[Definition | None, bool, str]:
        if keyword in ("config", "menuconfig"):
            depends = [each for block in open_blocks for each in block]
            definition = Definition(depends, in_choice=self._choices > 0)
            self._kconfig.symbols.setdefault(rest.strip(), []).append(definition)
            return definition, False, rest.strip()
        if keyword in ("menu", "choice", "if"):
            open_blocks.append([rest] if keyword == "if" else [])
            self._choices += keyword == "choice"
            return None, keyword != "if", ""
        if keyword.startswith("end") and len(open_blocks) > 1:
            open_blocks.pop()
            self._choices -= keyword == "endchoice"
        return None, False, ""

    def _attribute(
        self,
        keyword: str,
        rest: str,
        current: Definition | None,
        block: list[list[str]],
        owner: str,
    ) -> None:
        if keyword in ("depends on", "visible if") and block:
            block[-1].append(rest)
        if current is None:
            return
        if keyword == "depends on":
            current.depends.append(rest)
        elif keyword == "select":
            self._kconfig.selects.setdefault(rest.split(maxsplit=1)[0], []).append(owner)
        elif keyword in ("prompt", "bool", "tristate", "string", "int", "hex") and rest:
            current.prompt = True
            if match := _PROMPT_IF.match(rest):
                current.prompt_if = match[1]


def _lines(path: Path) -> Iterator[str]:
    """Give the statements of a file: lines joined at backslashes, no comments, no help texts."""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    help_indent: int | None = None
    in_help = False
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        indent = len(line.expandtabs(8)) - len(line.expandtabs(8).lstrip())
        if in_help:
            help_indent = indent if help_indent is None else help_indent
            if indent >= help_indent and indent > 0:
                continue
            in_help = False
        if stripped in ("help", "---help---"):
            in_help, help_indent = True, None
        elif not stripped.startswith("#"):
            yield stripped.split(" #")[0]
