"""A linear classifier as an ONNX graph: features in, label and probabilities out."""

import os
from typing import Any, Final

import numpy as np

from normexp._version import __version__
from normexp.artifact.linear_weights import LinearWeights, weights_of
from normexp.base.atomic import write_atomically
from normexp.base.errors import ArtifactError, MissingExtraError, RangeError

# Opset 13 is the first in which Softmax means what it says, on one axis; old runtimes read it.
_OPSET, _IR_VERSION = 13, 8
_FLOATS: Final = ("float32", "float64")


def save_onnx(
    model: Any, path: str | os.PathLike[str], /, *, dtype: str = "float32", arithmetic: str = "float64"
) -> None:
    """Write a fitted linear classifier as an ONNX graph.

    Parameters
    ----------
    model : SoftmaxClassifier, SoftmaxClassifierCV, LinearDiscriminant or NaiveBayesSoftmax
        Fitted.
    path : str or path-like
        The file, usually ``.onnx``; it is written whole or not at all.
    dtype : {"float32", "float64"}
        Of the features that come in and the probabilities that go out.
    arithmetic : {"float64", "float32"}
        Of the product and the softmax. "float32" is for devices without float64; on columns with large means it loses
        digits.

    Raises
    ------
    ArtifactError
        For a model that is not fitted, or labels that are neither whole numbers, booleans nor texts.
    RangeError
        For a dtype that is not one of the two.
    MissingExtraError
        Without the package onnx (``pip install 'normexp[onnx]'``).

    Notes
    -----
    Input ``features`` (N, D); outputs ``label`` (N,), int64 or text, ``probabilities`` and ``log_probabilities`` (N, K)
    in the order of the labels. With arithmetic="float64" the probabilities are those of ``predict_proba`` on the same
    numbers, to 1e-6 relative for float32 and to 1e-12 for float64, where they are not below 1e-30. Opset 13.

    Examples
    --------
    >>> import tempfile, pathlib, normexp as nx
    >>> model = nx.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_onnx(model, pathlib.Path(folder) / "model.onnx")
    ...     (pathlib.Path(folder) / "model.onnx").stat().st_size > 100
    True
    """
    for option, value in (("dtype", dtype), ("arithmetic", arithmetic)):
        if value not in _FLOATS:
            raise RangeError(f"save_onnx: {option} is {value!r}; it must be 'float32' or 'float64'.")
    try:
        import onnx  # noqa: PLC0415  (an optional package)
    except ModuleNotFoundError:
        raise MissingExtraError("Writing ONNX", "onnx") from None
    weights = weights_of(model, "save_onnx")
    graph = _graph(onnx, weights, dtype, arithmetic)
    made = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="normexp",
        producer_version=__version__,
    )
    onnx.checker.check_model(made, full_check=True)
    with write_atomically(path) as stream:
        stream.write(made.SerializeToString())


def _graph(onnx: Any, weights: LinearWeights, dtype: str, arithmetic: str) -> Any:
    make, types = onnx.helper, {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}
    coef, intercept = weights.coef.astype(np.float64), weights.intercept.astype(np.float64)
    if len(coef) == 1:  # two classes: the first has score 0
        coef, intercept = np.vstack([0 * coef, coef]), np.append(0.0, intercept)
    labels, label_type = _labels(onnx, weights.classes)
    constants = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(coef.T.astype(arithmetic)), "weight"),
        onnx.numpy_helper.from_array(intercept.astype(arithmetic), "bias"),
        labels,
    ]
    inner = types[arithmetic]
    nodes = [
        make.make_node("Cast", ["features"], ["working"], to=inner),
        make.make_node("MatMul", ["working", "weight"], ["product"]),
        make.make_node("Add", ["product", "bias"], ["logits"]),
        make.make_node("Softmax", ["logits"], ["prob"], axis=-1),
        make.make_node("LogSoftmax", ["logits"], ["log_prob"], axis=-1),
        make.make_node("ArgMax", ["logits"], ["best"], axis=-1, keepdims=0),
        make.make_node("Gather", ["labels", "best"], ["label"], axis=0),
        make.make_node("Cast", ["prob"], ["probabilities"], to=types[dtype]),
        make.make_node("Cast", ["log_prob"], ["log_probabilities"], to=types[dtype]),
    ]
    count, width = coef.shape
    value = make.make_tensor_value_info
    outputs = [
        value("label", label_type, ["rows"]),
        value("probabilities", types[dtype], ["rows", count]),
        value("log_probabilities", types[dtype], ["rows", count]),
    ]
    names = "" if weights.names is None else "Features: " + ", ".join(weights.names)
    return make.make_graph(
        nodes, "softmax_head", [value("features", types[dtype], ["rows", width])], outputs, constants, doc_string=names
    )


def _labels(onnx: Any, classes: np.ndarray[Any, Any]) -> tuple[Any, int]:
    """Return the labels as a constant, and their type."""
    listed = classes.tolist()
    if classes.dtype.kind in "iub":
        return onnx.numpy_helper.from_array(classes.astype(np.int64), "labels"), onnx.TensorProto.INT64
    if all(isinstance(label, str) for label in listed):
        text = [label.encode() for label in listed]
        return (
            onnx.helper.make_tensor("labels", onnx.TensorProto.STRING, [len(text)], text),
            onnx.TensorProto.STRING,
        )
    raise ArtifactError(
        f"save_onnx: the labels are of dtype {classes.dtype}; whole numbers, booleans and texts can be written: "
        "fit with y.astype(str)."
    )
