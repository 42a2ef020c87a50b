"""Rules about the source tree as a whole."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("analytics", "config", "footfall", "ingest_app", "report_app", "tasks", "web")
DRIVERS = {"redis", "pymongo", "gridfs", "duckdb", "celery", "kombu"}
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


def owners_of(names_in: Callable[[ast.Module], set[str]]) -> dict[str, set[str]]:
    """The packages, or modules that are in no package of analytics/, whose code has a name."""
    owners = defaultdict(set)
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            place = file.relative_to(ROOT)
            for name in names_in(ast.parse(file.read_text(encoding="utf-8"))):
                owners[name].add(str(place.parent if len(place.parts) > 2 else place))
    return owners


def collections_in(tree: ast.Module) -> set[str]:
    """The collections of MongoDB that a module names: `database["events"]`."""
    found = (x for x in ast.walk(tree) if isinstance(x, ast.Subscript))
    asked = (x.slice for x in found if ast.unparse(x.value).endswith("database"))
    return {x.value for x in asked if isinstance(x, ast.Constant) and isinstance(x.value, str)}


def keys_in(tree: ast.Module) -> set[str]:
    """The keys of Redis that a module names, without the words after the second: `footfall:journal` for several."""
    texts = (x.value for x in ast.walk(tree) if isinstance(x, ast.Constant) and isinstance(x.value, str))
    return {key for text in texts for key in re.findall(r"footfall:[a-z-]+", text)}


def key_constants_in(tree: ast.Module) -> set[str]:
    """The names of the constants that hold keys of Redis."""
    targets = [x for x in tree.body if isinstance(x, ast.Assign) and keys_in(ast.Module([x], []))]
    return {
        x.id for each in targets for x in ast.walk(each) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
    }


def imported_in(tree: ast.Module) -> set[str]:
    return {each.name for x in ast.walk(tree) if isinstance(x, ast.ImportFrom) for each in x.names}


def test_each_collection_is_used_by_one_package():
    owners = owners_of(collections_in)
    assert len(owners) > 20
    # the view of the last minutes asks MongoDB itself
    assert owners.pop("events") == {"analytics/events", "analytics/reports"}
    assert {name: packages for name, packages in owners.items() if len(packages) > 1} == {}


def test_each_key_of_redis_is_used_by_one_package():
    owners = owners_of(keys_in)
    assert len(owners) > 15
    assert {name: packages for name, packages in owners.items() if len(packages) > 1} == {}
    homes, users = owners_of(key_constants_in), owners_of(imported_in)
    assert len(homes) > 15
    assert {name: users[name] - homes[name] for name in homes if users[name] - homes[name]} == {}


def test_a_module_of_analytics_that_calls_itself_pure_reaches_no_driver():
    """Not by what it imports either. Purity is declared in the docstring of the module."""
    graph = grimp.build_graph("analytics", include_external_packages=True, exclude_type_checking_imports=True)
    graph.remove_module("analytics.segments.snapshot")  # it has the types of segments from the module of their store
    pure = [name for name in graph.modules if is_pure(name)]
    assert len(pure) > 50
    reached = {name: graph.find_upstream_modules(name) & DRIVERS for name in pure}
    assert {name: found for name, found in reached.items() if found} == {}


def is_pure(module: str) -> bool:
    file = ROOT / f"{module.replace('.', '/')}.py"
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file.exists() else None
    return bool(said and re.search(r"\bPure\b", said))


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


def functions_in(file: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_functions_are_short():
    """Tasks and routes above all: they say what is done, and functions below them say how."""
    lengths: dict[str, int] = {}
    tasks, routes = [], []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in functions_in(file):
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
    of_bench = {node.name: own_lines(node) for file in (ROOT / "bench").glob("*.py") for node in functions_in(file)}
    long = {name.split()[-1] for name, lines in (lengths | of_bench).items() if lines > 50}
    assert long == {"celery_settings"}, "it is a table"


def test_the_folders_of_tests_are_those_of_the_code():
    """In addition there are system/ and support/. Each package in analytics/ has tests."""
    tests = {name for name in packages_in(ROOT / "tests") if not name.startswith(("clients", "support/"))}
    code = {
        f"{package}/{name}".removesuffix("/.") for package in PACKAGES for name in (".", *packages_in(ROOT / package))
    }
    assert tests - {"support", "system"} <= code
    assert {name for name in code if name.startswith("analytics")} - tests == set()


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
