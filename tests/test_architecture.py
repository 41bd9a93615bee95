"""The rules of the code base that a machine can check: arrows, sizes, names, and what must not be written anywhere."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "cumulet_builder": ROOT / "builder/cumulet_builder",
    "cumulet": ROOT / "sdk/cumulet",
    "cumulet_qemu": ROOT / "qemu/cumulet_qemu",
}
# Who may import what of ours, beside itself. A name allows everything below it.
ARROWS = {
    "cumulet_builder": (
        "cumulet.central",
        "cumulet.cli",
        "cumulet.core",
        "cumulet.dispatch",
        "cumulet.inference",
        "cumulet.kubernetes",
        "cumulet.models",
        "cumulet.modem",
        "cumulet.monitor",
        "cumulet.packages",
        "cumulet.packing",
        "cumulet.site",
        "cumulet.spool",
        "cumulet.supercontainer",
        "cumulet.tasks",
        "cumulet.uplink",
        "cumulet_qemu",
    ),
    "cumulet_qemu": ("cumulet.core",),
    "cumulet": (),
}
# The bottom of the SDK; every other folder beside it is a part, which others use through its public names.
BOTTOM = "cumulet.core"
# The package itself, to find its folder, and its version are no arrow.
ROOTS = ("cumulet", "cumulet.__version__")
STARTERS = {"subprocess": "cumulet.core.proc"}
EXECUTORS = ("cumulet_builder.sandbox", "cumulet.core.proc")
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 6
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
# Written so that this file does not find itself.
FORBIDDEN = {
    "the host of a package registry": r"(deb|ftp[.\w]*|security|snapshot)[.]debian[.]org|pypi[.]org|pythonhosted[.]org"
    r"|(proxy|sum)[.]golang[.]org|npmjs[.]org",
    "a path of somebody's computer": r"[/]work[/](main|shared)|[/]farm[/]|[/]home[/][a-z]",
    "unfinished work": r"\bTODO\b|\bFIXME\b|\bXXX\b|NotImplemented[E]rror",
    "an exception without its rule": r"#\s*noqa(?!:)|#\s*type:\s*ignore(?!\[)",
}
FORBIDDEN_HERE = {Path("tests/test_architecture.py")}


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Every module of ours: its dotted name, its path, its syntax tree."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            words = [package, *path.relative_to(folder).with_suffix("").parts]
            name = ".".join(words).removesuffix(".__init__")
            yield name, path, ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports: `from a.b import c` is a.b.c."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_types(tree: ast.Module) -> ast.Module:
    """The module without what only a type checker sees."""
    seen = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))]
    return ast.Module(seen, tree.type_ignores)


def python_files() -> list[Path]:
    """Every Python file of the repository."""
    folders = ("builder", "sdk", "qemu", "tests", "bench")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def below(name: str, tops: tuple[str, ...]) -> bool:
    """Whether `name` is one of `tops` or inside one."""
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def tracked() -> list[Path]:
    """The files under version control; in an unpacked source archive, all files of the source folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [Path(name) for name in listed.stdout.split("\0") if name]
        return [path for path in paths if (ROOT / path).is_file()]
    folders = ("builder", "sdk", "qemu", "recipes", "layers", "tests", "docs", "bench")
    return [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]


def test_arrows_point_one_way() -> None:
    wrong = []
    for name, _, tree in modules():
        package = name.split(".")[0]
        for imported in imports(tree):
            other = imported.split(".")[0]
            arrow = other in PACKAGES and other != package and imported not in ROOTS
            if arrow and not below(imported, ARROWS[package]):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_sdk_parts_use_each_other_through_public_names() -> None:
    wrong = []
    for name, _, tree in modules():
        if not name.startswith("cumulet."):
            continue
        part = ".".join(name.split(".")[:2])
        for imported in imports(tree):
            words = imported.split(".")
            if words[0] != "cumulet" or imported in ROOTS or below(imported, (BOTTOM, part)):
                continue
            if len(words) > 3 or part == BOTTOM:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_programs_are_started_in_one_module() -> None:
    wrong = []
    for name, _, tree in modules():
        for imported in imports(without_types(tree)):
            owner = STARTERS.get(imported.split(".")[0])
            if owner not in (None, name):
                wrong.append(f"{name} imports {imported}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                starts = re.match(r"(exec|spawn|posix_spawn)|(system|popen|fork)$", node.attr)
                if starts and name not in EXECUTORS:
                    wrong.append(f"{name} uses os.{node.attr}")
    assert wrong == []


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > FILE_LINES} == {}


def test_functions_are_short() -> None:
    wrong = []
    for path in python_files():
        for function in functions(ast.parse(path.read_text())):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > FUNCTION_LINES:
                wrong.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {length} lines")
    assert wrong == []


def test_functions_have_few_parameters() -> None:
    """A keyword-only parameter with a default does not count: the caller need not think of it."""
    wrong = []
    for name, path, tree in modules():
        for function in functions(tree):
            words = function.args
            given = [each.arg for each in (*words.posonlyargs, *words.args) if each.arg not in ("self", "cls")]
            needed = [
                each for each, default in zip(words.kwonlyargs, words.kw_defaults, strict=True) if default is None
            ]
            if len(given) + len(needed) > PARAMETERS:
                wrong.append(f"{path.relative_to(ROOT)}:{function.lineno} {name}.{function.name}")
    assert wrong == []


def test_every_module_says_what_it_owns() -> None:
    silent = [name for name, path, tree in modules() if path.stat().st_size and not ast.get_docstring(tree)]
    assert silent == []


def test_no_module_has_a_vague_name() -> None:
    assert [name for name, _, _ in modules() if VAGUE & set(name.split("."))] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_forbidden_is_written(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    wrong = []
    for path in tracked():
        if path in FORBIDDEN_HERE or path.suffix in (".png", ".sum"):
            continue
        for number, line in enumerate((ROOT / path).read_bytes().decode(errors="replace").splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{path}:{number}: {line.strip()[:100]}")
    assert wrong == []


def test_every_recipe_document_parses() -> None:
    paths = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert paths
    assert [path for path in paths if not isinstance(yaml.safe_load(path.read_text()), dict)] == []


def test_every_image_recipe_resolves() -> None:
    from cumulet_builder.recipe.load import load_recipe

    paths = sorted((ROOT / "recipes/images").glob("*.yaml"))
    assert {path.stem: load_recipe(path).image for path in paths} == {path.stem: path.stem for path in paths}
    assert "qemu-arm64" in {path.stem for path in paths}
