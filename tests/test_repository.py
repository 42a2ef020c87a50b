"""Rules about the source tree as a whole."""

import ast
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
PACKAGES = ("analytics", "config", "footfall", "ingest_app", "report_app", "tasks", "web")
INSTALLED = (ROOT / "tests/clients/python", ROOT / "bench/peers/python")  # by stock_clients.py


def public_names(tree: ast.Module) -> set[str]:
    """The public classes and constants of a module. A type variable is not a constant."""
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in getattr(target, "elts", [target])]
            names |= {part.id for part in parts if isinstance(part, ast.Name) and part.id[0].isupper()}
    return {name for name in names if not name.startswith("_") and len(name) > 1}


def test_no_two_public_classes_or_constants_have_the_same_name():
    homes = defaultdict(list)
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for name in public_names(ast.parse(file.read_text(encoding="utf-8"))):
                homes[name].append(str(file.relative_to(ROOT)))
    assert len(homes) > 500
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def collections_of(file: Path) -> set[str]:
    """The collections of MongoDB that a module names: `database["events"]`."""
    found = (x for x in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(x, ast.Subscript))
    asked = (x.slice for x in found if ast.unparse(x.value).endswith("database"))
    return {x.value for x in asked if isinstance(x, ast.Constant) and isinstance(x.value, str)}


def test_each_collection_is_used_by_one_package():
    owners = defaultdict(set)
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            place = file.relative_to(ROOT)
            for name in collections_of(file):
                owners[name].add(str(place.parent if len(place.parts) > 2 else place))
    assert len(owners) > 20
    # the view of the last minutes asks MongoDB itself
    assert owners.pop("events") == {"analytics/events", "analytics/reports"}
    assert {name: packages for name, packages in owners.items() if len(packages) > 1} == {}


def packages_in(folder: Path) -> set[str]:
    found = {file.parent.relative_to(folder) for file in folder.rglob("*.py")}
    return {str(each) for each in found} - {"."}


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code, without those of nested functions and without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    nested = [
        x for x in ast.walk(function) if x is not function and isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lines = {line for node in body for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    return len(lines - {line for x in nested for line in range(x.lineno, (x.end_lineno or 0) + 1)})


def test_functions_are_short():
    """Tasks and routes above all: they say what is done, and functions below them say how."""
    lengths: dict[str, int] = {}
    tasks, routes = [], []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lengths[f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"] = own_lines(node)
                    decorators = " ".join(map(ast.unparse, node.decorator_list))
                    if "app.task(" in decorators:
                        tasks.append(own_lines(node))
                    if re.search(r"\.(get|post|put|patch|delete|route)\(", decorators):
                        routes.append(own_lines(node))
    assert len(tasks) >= 9
    assert len(routes) > 50
    assert median(tasks) <= 4
    assert median(routes) <= 5
    assert median(lengths.values()) <= 5
    long = {name.split()[-1] for name, lines in lengths.items() if lines > 50}
    assert long == {"celery_settings"}, "it is a table"


def test_the_folders_of_tests_are_those_of_the_code():
    """In addition there are system/ and support/. Each package in analytics/ has tests."""
    tests = {name for name in packages_in(ROOT / "tests") if not name.startswith("clients")}
    code = {
        f"{package}/{name}".removesuffix("/.") for package in PACKAGES for name in (".", *packages_in(ROOT / package))
    }
    assert tests - {"support", "system"} <= code
    assert {name for name in code if name.startswith("analytics")} - tests == {
        "analytics/access",
        "analytics/diagnostics",
    }


def test_no_text_stands_alone():
    """A string on a line of its own that is no docstring: parentheses are missing, and a sentence lost its end."""
    for package in (*PACKAGES, "bench", "tests"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if any(file.is_relative_to(folder) for folder in INSTALLED):
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                for block in filter(None, (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))):
                    alone = [x for x in block[1:] if isinstance(x, ast.Expr)] if isinstance(block, list) else []
                    assert not any(is_text(x.value) for x in alone), f"{file}:{alone[0].lineno}"


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_tests_that_the_docs_name_are_there():
    """`test_a.py::test_b`, and then further tests of the same file as `test_c`."""
    sources = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    named = 0
    for document in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        page, file = document.read_text(encoding="utf-8"), ""
        assert set(re.findall(r"\btest_\w+\.py\b", page)) <= set(sources), document.name
        for given, name in re.findall(r"(?:(test_\w+\.py)::)?(test_\w+)(?!\.py)\b`", page):
            file = given or file
            assert f"def {name}(" in sources[file], f"{document.name}: {file}::{name}"
            named += 1
    assert named > 50


def test_links_of_the_docs_lead_to_files_and_headings():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    headings = {
        page: set(map(anchor_of, re.findall("^#+ (.*)", page.read_text("utf-8"), re.MULTILINE))) for page in pages
    }
    followed = 0
    for page in pages:
        for path, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text("utf-8")):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor in headings[target], f"{page.name}: {path}#{anchor}"
            followed += 1
    assert followed > 100


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_files_that_the_docs_of_the_source_tree_name_are_there():
    paths = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'tests', 'bench', 'docs'))})/[\w/.-]*)`")
    for document in ("docs/architecture.md", "CONTRIBUTING.md"):
        named = paths.findall((ROOT / document).read_text(encoding="utf-8"))
        assert len(named) > 5
        assert [path for path in named if not (ROOT / path).exists()] == []
