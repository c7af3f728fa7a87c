"""The house rules on files: length, names, tests that test, TODOs with an issue, flags of the kernels."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "src" / "normexp"
MOST_LINES = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
CHECKING_CALLS = re.compile(r"^(raises|warns|fail|assert_\w+|check_\w+)$")
LOOSE = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\s*\(?(?:issue\s*)?#\d+)")


def sources(root):
    return sorted(p for p in root.rglob("*.py") if "__pycache__" not in p.parts)


def long_files(root):
    """Files of more than 400 lines, with their lengths."""
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources(root)}
    return {str(p.relative_to(root)): n for p, n in lengths.items() if n > MOST_LINES}


def vague_names(root):
    """Modules and folders whose name says nothing."""
    names = {p.relative_to(root) for p in root.rglob("*") if p.suffix == ".py" or p.is_dir()}
    return sorted(str(p) for p in names if p.stem.strip("_").lower() in VAGUE)


def untested_tests(root):
    """Test files with a test that asserts nothing: no assert, no pytest.raises, no assert_ or check_ call."""
    found = []
    for path in sources(root):
        if not path.name.startswith("test_"):
            continue
        if not any(_checks(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
            found.append(str(path.relative_to(root)))
    return found


def _checks(node):
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return bool(CHECKING_CALLS.match(name))
    return False


def loose_todos(*roots):
    """Comments that put something off without the number of an issue, as path:line."""
    found = []
    for path in (p for root in roots for p in sources(root)):
        with path.open("rb") as file:
            comments = [t for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]
        found += [f"{path}:{t.start[0]}" for t in comments if LOOSE.search(t.string)]
    return found


# ---------------------------------------------------------------- flags of the kernels

FORBIDDEN = {"nnan", "ninf", "fast"}
COMPILED = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil"}


def _constants(trees):
    """Every module-level name of the kernels and the literal it stands for."""
    found = {}
    for tree in trees:
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                if isinstance(target, ast.Name) and value is not None:
                    found[target.id] = value
    return found


def _flags(node, constants):
    """The flags an expression stands for; None where they cannot be read from the source."""
    if isinstance(node, ast.Name) and node.id in constants:
        return _flags(constants[node.id], constants)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"set", "frozenset"}:
        return _flags(node.args[0], constants) if node.args else set()
    if isinstance(node, (ast.Set, ast.Tuple, ast.List)):
        values = [n.value if isinstance(n, ast.Constant) else None for n in node.elts]
        return None if None in values else set(values)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return {"fast"} if node.value else set()
    return None


def _decorator(node):
    """(name, keywords) of a decorator, whether called or not."""
    call = node if isinstance(node, ast.Call) else None
    function = call.func if call else node
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name, {k.arg: k.value for k in call.keywords} if call else {}


def _unpacked(keywords, constants):
    """Keywords with the dictionaries behind ``**`` spread out."""
    flat = {k: v for k, v in keywords.items() if k is not None}
    extra = keywords.get(None)
    extra = constants.get(extra.id, extra) if isinstance(extra, ast.Name) else extra
    if isinstance(extra, ast.Dict):
        flat.update({k.value: v for k, v in zip(extra.keys, extra.values, strict=True) if isinstance(k, ast.Constant)})
    return flat


def compiled_functions(root):
    """(place, flags) of each compiled function: flags None where it sets none or they cannot be read."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources(root)}
    constants = _constants(trees.values())
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            for decorator in getattr(node, "decorator_list", []):
                name, keywords = _decorator(decorator)
                if name not in COMPILED:
                    continue
                value = _unpacked(keywords, constants).get("fastmath")
                place = f"{path.relative_to(root)}:{node.name}"
                found.append((place, None if value is None else _flags(value, constants)))
    return found


# ---------------------------------------------------------------- the rules


def test_no_source_file_is_longer_than_four_hundred_lines():
    assert long_files(PACKAGE) == {}


def test_no_module_is_named_after_nothing():
    assert vague_names(PACKAGE) == []


def test_every_test_file_checks_something():
    assert untested_tests(REPO / "tests") == []


def test_every_todo_carries_an_issue_number():
    assert loose_todos(PACKAGE, REPO / "tests", REPO / "bench", REPO / "examples") == []


def test_every_kernel_sets_flags_of_its_own_without_nnan_and_ninf():
    """Numba hands a caller's flags down to callees that set none; nnan and ninf would lose NaN and -inf."""
    functions = compiled_functions(PACKAGE / "kernels" / "cpu")
    assert functions
    assert [place for place, flags in functions if flags is None] == []
    assert [place for place, flags in functions if flags & FORBIDDEN] == []


def test_nothing_outside_the_kernels_is_compiled():
    outside = [p for p, _ in compiled_functions(PACKAGE) if not p.startswith("kernels")]
    assert outside == []


# ---------------------------------------------------------------- each rule can fail


def test_a_planted_long_file_is_found(tmp_path):
    (tmp_path / "fine.py").write_text("x = 1\n" * MOST_LINES)
    assert long_files(tmp_path) == {}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "long.py").write_text("x = 1\n" * (MOST_LINES + 1))
    assert long_files(tmp_path) == {"deep/long.py": 401}


@pytest.mark.parametrize("name", ["utils.py", "_helpers.py", "deep/common.py", "misc/fine.py"])
def test_a_planted_vague_name_is_found(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    (tmp_path / "commonality.py").write_text("")
    assert len(vague_names(tmp_path)) == 1


def test_a_planted_test_without_an_assert_is_found(tmp_path):
    (tmp_path / "test_good.py").write_text("def test_a():\n    assert 1\n")
    (tmp_path / "test_raises.py").write_text("def test_a():\n    with pytest.raises(E):\n        f()\n")
    (tmp_path / "test_idle.py").write_text("def test_a():\n    f() == 2\n")
    assert untested_tests(tmp_path) == ["test_idle.py"]


def test_a_planted_todo_without_an_issue_is_found(tmp_path):
    (tmp_path / "a.py").write_text("# TODO(#12): later\n# TODO #3 too\nx = 'TODO'\n# TODO: some day\n# FIXME\n")
    assert [place.rsplit(":", 1)[1] for place in loose_todos(tmp_path)] == ["4", "5"]


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        ("@njit(fastmath=True)\ndef f(): ...", {"fast"}),
        ("FLAGS = {'nsz', 'nnan'}\n@numba.njit(fastmath=FLAGS)\ndef f(): ...", {"nsz", "nnan"}),
        ("@njit(fastmath={'contract'})\ndef f(): ...", {"contract"}),
        ("@njit(fastmath=frozenset({'ninf'}))\ndef f(): ...", {"ninf"}),
        ("@njit(fastmath=False)\ndef f(): ...", set()),
        ("@njit\ndef f(): ...", None),
        ("@njit(cache=True)\ndef f(): ...", None),
        ("@njit(fastmath=pick())\ndef f(): ...", None),
        ("OPTIONS = {'fastmath': {'ninf'}}\n@njit(**OPTIONS)\ndef f(): ...", {"ninf"}),
    ],
)
def test_the_flags_are_read_from_the_source(tmp_path, source, flags):
    (tmp_path / "kernel.py").write_text(source)
    assert compiled_functions(tmp_path) == [("kernel.py:f", flags)]
