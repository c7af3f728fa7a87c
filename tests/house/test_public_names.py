"""The public names: those of the contract, all there, all documented; and the tree of errors."""

import ast
import builtins
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from numpydoc.validate import validate

import normexp as nx
from normexp.base import errors

REPO = Path(__file__).resolve().parents[2]

# The public names. Those not built yet are simply not there; none may be renamed.
CONTRACT = {
    "softmax", "log_softmax", "logsumexp", "segment_softmax", "sparsemax", "entmax", "top_k", "sample",
    "gumbel_softmax",
    "cross_entropy", "cross_entropy_with_grad", "linear_cross_entropy", "linear_cross_entropy_with_grad",
    "softmax_vjp", "softmax_jvp", "softmax_jacobian", "set_num_threads", "get_num_threads", "NormexpError",
    "entropy", "margin", "energy", "max_logit", "generalised_entropy",
    "SoftmaxClassifier", "SoftmaxClassifierCV", "TrustedClassifier", "save", "load",
}  # fmt: skip
ADDED = {"__version__", "NormexpWarning", "set_kept_memory"}
FIRST = {
    "softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad", "set_num_threads",
    "get_num_threads", "NormexpError",
}  # fmt: skip
# arguments of the contract, which nobody may rename or reorder (keyword-only ones may be added)
SIGNATURES = {
    "softmax": ("logits", "/", "axis", "temperature", "where", "out"),
    "log_softmax": ("logits", "/", "axis", "temperature", "where", "out"),
    "logsumexp": ("logits", "/", "axis", "where", "keepdims"),
    "cross_entropy": (
        "logits", "target", "/", "axis", "weight", "label_smoothing", "ignore_index", "z_loss", "focal_gamma",
        "reduction",
    ),
    "cross_entropy_with_grad": (
        "logits", "target", "/", "axis", "weight", "label_smoothing", "ignore_index", "z_loss", "focal_gamma",
        "reduction",
    ),
}  # fmt: skip
DEFAULTS = {
    "axis": -1, "temperature": 1.0, "where": None, "out": None, "keepdims": False, "weight": None,
    "label_smoothing": 0.0, "ignore_index": None, "z_loss": 0.0, "focal_gamma": 0.0, "reduction": "mean",
}  # fmt: skip
# GL/SS/ES are matters of taste that ruff already settles; these are about truth
NUMPYDOC = {
    "GL08": "no docstring",
    "SS01": "no summary",
    "PR01": "undocumented parameters",
    "PR02": "documented parameters that do not exist",
    "PR03": "parameters in another order",
    "PR04": "a parameter without a type",
    "PR07": "a parameter without a description",
    "RT01": "no Returns section",
    "RT03": "a return value without a description",
    "EX01": "no Examples section",
}
DOCUMENTED = sorted(
    name
    for name in nx.__all__
    if name != "__version__" and not (inspect.isclass(getattr(nx, name)) and issubclass(getattr(nx, name), Exception))
    and not (inspect.isclass(getattr(nx, name)) and issubclass(getattr(nx, name), Warning))
)  # fmt: skip


def complaints(path):
    """What numpydoc finds wrong in a docstring, of the things that matter here."""
    return [f"{code}: {text}" for code, text in validate(path)["errors"] if code in NUMPYDOC]


def test_the_names_are_those_of_the_contract():
    assert set(nx.__all__) <= CONTRACT | ADDED
    assert set(nx.__all__) >= FIRST
    assert len(nx.__all__) == len(set(nx.__all__))


def test_what_the_functional_level_offers_is_offered_at_the_top():
    from normexp import ops

    offered = {name for name in ops.__all__ if name in CONTRACT}
    assert offered <= set(nx.__all__)
    assert all(getattr(nx, name) is getattr(ops, name) for name in offered)


@pytest.mark.parametrize("name", sorted(nx.__all__))
def test_every_name_leads_somewhere(name):
    assert getattr(nx, name) is not None
    assert name in dir(nx)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nx.no_such_name


def test_type_checkers_see_the_same_names():
    """The block under TYPE_CHECKING repeats the lazy table by hand; here the two are compared."""
    tree = ast.parse((REPO / "src" / "normexp" / "__init__.py").read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    seen = {alias.asname or alias.name for block in blocks for node in block.body for alias in node.names}
    assert seen == set(nx.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_signature_is_the_contract(name):
    parameters = inspect.signature(getattr(nx, name)).parameters
    wanted = SIGNATURES[name]
    arrays, options = wanted[: wanted.index("/")], wanted[wanted.index("/") + 1 :]
    positional = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_ONLY]
    keyword = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert tuple(positional) == arrays
    assert tuple(keyword[: len(options)]) == options
    assert len(positional) + len(keyword) == len(parameters)
    for option in options:
        assert parameters[option].default == DEFAULTS[option], option


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_name_is_documented_with_its_parameters_and_an_example(name):
    assert complaints(f"normexp.{name}") == []


@pytest.mark.parametrize("name", [n for n in DOCUMENTED if n in SIGNATURES])
def test_the_functions_state_what_they_raise_and_their_formula(name):
    text = inspect.getdoc(getattr(nx, name))
    for section in ("Raises", "Notes", "Examples"):
        assert re.search(rf"^{section}\n-+$", text, re.MULTILINE), section
    assert ">>>" in text


def _planted(x, /, *, scale=1.0):
    """Scale an array.

    Parameters
    ----------
    x : ndarray
        What to scale.
    size : float
        An argument that does not exist.
    """
    return scale * x


def test_a_wrong_docstring_is_seen(tmp_path, monkeypatch):
    source = inspect.getsource(_planted).replace("_planted", "planted")
    (tmp_path / "planted_docs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    found = " ".join(complaints("planted_docs.planted"))
    assert {code for code in NUMPYDOC if code in found} >= {"PR01", "PR02", "RT01", "EX01"}


# ---------------------------------------------------------------- errors

TREE = re.findall(r"[├└]── (\w+)\s+\(([\w.]+)", inspect.getdoc(errors))


def test_the_tree_in_the_docstring_is_complete():
    drawn = {name for name, _ in TREE}
    real = {n for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, errors.NormexpError)}
    assert drawn == real - {"NormexpError"}
    assert len(TREE) >= 7


@pytest.mark.parametrize(("name", "builtin"), TREE)
def test_every_error_is_a_normexp_error_and_the_builtin(name, builtin):
    error = getattr(errors, name)
    wanted = np.exceptions.AxisError if builtin == "numpy.exceptions.AxisError" else getattr(builtins, builtin)
    assert issubclass(error, errors.NormexpError)
    assert issubclass(error, wanted)
    assert error.__mro__[1] is errors.NormexpError


def test_an_axis_error_is_a_value_error_and_an_index_error():
    assert issubclass(errors.AxisError, (ValueError, IndexError))
    assert issubclass(errors.AxisError, ValueError)
    assert issubclass(errors.AxisError, IndexError)


def test_the_missing_extra_says_what_to_type():
    error = errors.MissingExtraError("The report", "cli")
    assert isinstance(error, ImportError)
    assert "pip install 'normexp[cli]'" in str(error)


def test_every_raise_in_the_package_is_one_of_ours():
    """A bare ValueError would pass by `except NormexpError`; AttributeError is the protocol of __getattr__."""
    foreign = {"ValueError", "TypeError", "IndexError", "RuntimeError", "KeyError", "Exception"}
    found = []
    for path in sorted((REPO / "src" / "normexp").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            raised = getattr(node, "exc", None) if isinstance(node, ast.Raise) else None
            name = getattr(getattr(raised, "func", raised), "id", None)
            if name in foreign:
                found.append(f"{path.relative_to(REPO)}:{node.lineno}: {name}")
    assert found == []
