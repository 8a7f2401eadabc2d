"""The line of every key, however it is written: checked against texts whose lines are known."""

import random
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from polycdn.config.locate import line_of, lines_of

NAMES = ["a", "b", "name", "x-y", "1", "with.dot", "two words", 'quo"te', "ümlaut", "", "back\\slash"]
SCALARS = [
    "1",
    "-0.5",
    "true",
    "1979-05-27 07:32:00",
    "inf",
    '"plain"',
    '"# no comment ] } = [x]"',
    '"escaped \\" quote \\\\"',
    "'literal \\'",
    '""',
    '"""one line"""',
    '"""\nfirst\n[[no.header]]\nk = 1 # "x" ""\n"""',
    "'''\nlit ''eral\n[no]\n'''",
    '"""ends in quotes"""""',
    '"""a \\\n   b"""',
]


class Writer:
    """Writes TOML by the dice of a seed, and notes the line of each path as it goes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.text = ""
        self.expected: dict[tuple, int] = {}

    def note(self, path) -> None:
        self.expected.setdefault(path, self.text.count("\n") + 1)

    def any_of(self, *texts: str) -> None:
        self.text += self.dice.choice(texts)

    def some_names(self, most: int) -> list[str]:
        return self.dice.sample(NAMES, self.dice.randint(0, most))

    def key(self, name: str) -> str:
        is_bare = name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
        if is_bare and self.dice.random() < 0.5:
            return name
        if self.dice.random() < 0.5:
            return f"'{name}'"
        escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("ü", "\\u00fc")
        return f'"{escaped}"'

    def value(self, path, depth: int) -> None:
        kind = self.dice.choice(["scalar", "scalar", "array", "inline"]) if depth else "scalar"
        if kind == "scalar":
            self.any_of(*SCALARS)
        elif kind == "array":
            self.array(path, depth)
        else:
            self.inline(path, depth)

    def array(self, path, depth: int) -> None:
        self.text += "["
        for index in range(self.dice.randint(0, 3)):
            self.any_of("", " ", "\n", "\n  # comment, ] here\n  ")
            self.note((*path, index))
            self.value((*path, index), depth - 1)
            self.any_of(",", " ,", "\n,")
        self.any_of("]", "\n]", " # last\n]")

    def inline(self, path, depth: int) -> None:
        self.text += "{"
        for number, name in enumerate(self.some_names(3)):
            self.text += ", " if number else " "
            self.note((*path, name))
            self.text += f"{self.key(name)} = "
            self.value((*path, name), depth - 1)
        self.text += " }"

    def start_line(self) -> None:
        self.any_of("", "\n", "  # [[a]]\n", "\t\n\n")
        self.text += "\n" if self.text and not self.text.endswith("\n") else ""
        self.any_of("", "  ")

    def pairs(self, path) -> None:
        for name in self.some_names(4):
            self.start_line()
            self.note((*path, name))
            inner, written = (*path, name), self.key(name)
            if self.dice.random() < 0.2:
                inner = (*inner, self.dice.choice(NAMES))
                self.note(inner)
                written = f"{written} . {self.key(inner[-1])}"
            self.text += f"{written} = "
            self.value(inner, 2)
            self.any_of("\n", "  # done\n")

    def header(self, brackets: tuple[str, str], names: tuple[str, ...], *paths) -> None:
        self.start_line()
        for path in paths:
            self.note(path)
        self.text += brackets[0] + " . ".join(map(self.key, names)) + brackets[1]
        self.any_of("\n", " # [x]\n")

    def document(self) -> None:
        self.pairs(())
        free = [name for name in NAMES if (name,) not in self.expected]
        for name in free[: self.dice.randint(0, 3)]:
            if self.dice.random() < 0.5:
                self.header(("[", "]"), (name,), (name,))
                self.pairs((name,))
                continue
            for index in range(self.dice.randint(1, 3)):
                self.header(("[[", "]]"), (name,), (name,), (name, index))
                self.pairs((name, index))
                if self.dice.random() < 0.5:
                    self.header(("[ ", " ]"), (name, "sub"), (name, index, "sub"))
                    self.pairs((name, index, "sub"))


def paths_of(value, path=()):
    """Every path of a parsed document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


@given(st.integers(0, 2**32))
def test_every_key_is_found_on_its_line(seed):
    writer = Writer(seed)
    writer.document()
    tree, lines = tomllib.loads(writer.text), lines_of(writer.text)
    assert set(paths_of(tree)) <= set(lines), writer.text
    assert lines_of(writer.text.replace("\n", "\r\n")) == lines
    for path, line in writer.expected.items():
        assert lines[path] == line, (path, writer.text)


def test_the_forms_of_toml_by_example():
    text = """\
top = 1
[a.b]
c = [
  1,
  { d = 2 },
]
[[s]]
n = "x"
[s.p]
k = '''
multi
'''
[[s]]
p.k.j = 3
[[s.o]]
z = 1
[[s.o]]
"""
    lines = lines_of(text)
    assert lines["top",] == 1
    assert lines["a",] == lines["a", "b"] == 2
    assert lines["a", "b", "c", 0] == 4
    assert lines["a", "b", "c", 1, "d"] == 5
    assert lines["s",] == lines["s", 0] == 7
    assert lines["s", 0, "p", "k"] == 10
    assert lines["s", 1] == 13
    assert lines["s", 1, "p"] == lines["s", 1, "p", "k", "j"] == 14
    assert lines["s", 1, "o", 0, "z"] == 16
    assert lines["s", 1, "o", 1] == 17


def test_what_is_not_there_has_the_line_of_what_holds_it():
    lines = lines_of("a = 1\n[b]\nc = 1\n")
    assert line_of(lines, ("b", "missing", 3)) == 2
    assert line_of(lines, ("missing",)) == 1
    assert line_of({}, ("a",)) == 1
