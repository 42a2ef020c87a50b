"""What holds of the source tree as a whole."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("analytics", "config", "footfall", "ingest_app", "report_app", "tasks", "web")


def public_names(tree: ast.Module) -> set[str]:
    """Classes and constants of a module. A type variable is no constant."""
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
