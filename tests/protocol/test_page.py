"""docs/protocol.md: what it cites is there, and it has all rows of the specification's tables. docs/threat-model.md:
what it cites is there."""

import fnmatch
import json
import re
import subprocess

import pytest

import spec
from program import OUTBOARD, TOP

PAGE = TOP / "docs/protocol.md"

# In the first column, the page leaves these away.
PREFIXES = ("VFIO_USER_", "VFIO_DEVICE_FLAGS_", "VFIO_REGION_INFO_FLAG_", "VFIO_IRQ_INFO_", "VFIO_IRQ_SET_",
            "VFIO_DEVICE_FEATURE_", "VFIO_MIGRATION_", "VFIO_DEVICE_STATE_")


def tables(text):
    """(heading, rows) of each table; a row is the list of its cells, the first one that of their names."""
    heading, rows = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield heading, [rows[0], *rows[2:]]
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")


def citations(text):
    """(kind, file, name) of all that is cited; a name alone is of the file that was named before it."""
    kind = file = None
    for span in re.findall(r"`([^`]+)`", text):
        span = " ".join(span.split())
        if m := re.fullmatch(r"(check|client|library): (.+)", span):
            yield from ((m[1], None, name) for name in m[2].split(", "))
        elif m := re.fullmatch(r"unit: (\w+): (.+)", span):
            kind, file = "unit", m[1]
            yield from ((kind, file, name) for name in m[2].split(", "))
        elif m := re.fullmatch(r"(\w+): (test_.+|\*)", span):
            kind, file = "protocol", m[1]
            yield from ((kind, file, name) for name in m[2].split(", "))
        elif re.fullmatch(r"(test_\w+)(, test_\w+)*", span):
            yield from ((kind, file, name) for name in span.split(", "))


def ids(*options):
    done = subprocess.run([OUTBOARD, "check", *options, "--list", "--format=json"], capture_output=True,
                          text=True, check=True)
    return [c["id"] for c in json.loads(done.stdout)["checks"]]


def functions(path, pattern):
    return set(re.findall(pattern, path.read_text(), re.MULTILINE)) if path.exists() else set()


@pytest.fixture(scope="module")
def exists():
    """Is what (kind, file, name) names there?"""
    lists = {"check": ids(), "client": ids("--client")}
    cases = functions(TOP / "tests/protocol/library.c", r'^    { "[^"]+", "(\w+)"')

    def look(kind, file, name):
        if kind in lists:
            return bool(fnmatch.filter(lists[kind], name))
        if kind == "library":
            return name in cases
        if kind == "unit":
            return name in functions(TOP / f"tests/unit/test_{file}.c", r"^static void (\w+)\(void \*\*")
        return name in functions(TOP / f"tests/protocol/test_{file}.py", r"^def (\w+)\(")

    return look


def test_what_is_cited_is_there(exists):
    cited = list(citations(PAGE.read_text()))
    assert len(cited) > 300
    assert [c for c in cited if not exists(*c)] == []


def test_what_is_not_there_is_found(exists):
    text = "`check: irq.none`, `client: irq.*`, `framing: test_nothing`, `test_neither`, `unit: wire: test_no`, " \
           "`nobody: test_garbage`, `regions: *`, `library: none`"
    wrong = list(citations(text))
    assert len(wrong) == 8 and not any(exists(*c) for c in wrong)
    assert len(list(citations("`framing: test_byte_by_byte`, `test_a`, `test_b, test_c`; `check: a, b.*`"))) == 6


def test_each_row_cites_a_test():
    for heading, (head, *rows) in tables(PAGE.read_text()):
        assert head[-1] == "Shown by", heading
        for row in rows:
            assert len(row) == len(head), (heading, row)
            assert list(citations(row[-1])), (heading, row[0])


def test_each_row_of_the_specification_is_there():
    names = {}  # of each section of the specification, the first cells that stand under its name
    for heading, (_, *rows) in tables(PAGE.read_text()):
        for section in re.split(", | and ", heading):
            names.setdefault(section, []).extend(row[0] for row in rows)

    def missing(section, name):
        short = next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name)
        return not any(re.search(rf"(?<!\w){re.escape(n)}(?!\w)", cell)
                       for n in {name, short} for cell in names.get(section, []))

    assert [row for row in sorted(spec.rows()) if missing(*row)] == []
    assert [s for s in spec.SECTIONS if missing("Sections without tables", s)] == []


# ---- The threat model ---------------------------------------------------------------------------


def threat_citations(text):
    """(file, test) of the last cells; test is None where a whole file is meant."""
    for _, (_, *rows) in tables(text):
        for row in rows:
            file = None
            for span in re.findall(r"`([\w/]+(?:::\w+)?)`", row[-1]):
                name, _, test = span.partition("::")
                if not test and name.startswith("test_"):
                    name, test = file, name
                file = name
                yield file, test or None


def test_what_the_threat_model_cites_is_there():
    def there(file, test):
        folder, _, name = file.rpartition("/")
        found = [path for path in (TOP / "tests" / folder).glob("**/*.[cp]*")
                 if path.name in (f"test_{name}.c", f"test_{name}.py", f"{name}.c")]
        return any(not test or re.search(rf"^(static void |def )(test_)?{test}\(", path.read_text(), re.MULTILINE)
                   for path in found)

    cited = list(threat_citations((TOP / "docs/threat-model.md").read_text()))
    assert len(cited) > 80
    assert [c for c in cited if not there(*c)] == []
    assert not there("framing", "test_nothing") and not there("nobody", None)
