"""Weights as safetensors: what other programs read, and what torch.nn.Linear calls weight and bias."""

import json
import os
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.artifact.linear_weights import LinearWeights, head_of, weights_of
from normexp.base.atomic import write_atomically
from normexp.base.errors import ArtifactError, MissingExtraError

_FORMAT: Final = "normexp linear head 1"


def save_weights(model: Any, path: str | os.PathLike[str], /) -> None:
    """Write the weights of a linear classifier as a safetensors file.

    Parameters
    ----------
    model : SoftmaxClassifier, SoftmaxClassifierCV, LinearDiscriminant or NaiveBayesSoftmax
        Fitted.
    path : str or path-like
        The file, usually ``.safetensors``; it is written whole or not at all.

    Raises
    ------
    ArtifactError
        For a model that is not fitted, or labels that are neither numbers, booleans nor texts.
    DtypeError
        For another kind of model.
    MissingExtraError
        Without the package safetensors (``pip install 'normexp[safetensors]'``).

    Notes
    -----
    Tensors ``weight`` (S, D) and ``bias`` (S,) in the model's dtype, as of ``torch.nn.Linear``; S is 1 for two classes
    (the score of the second), else K. Labels and names of the features stand in the metadata as JSON.

    Examples
    --------
    >>> import tempfile, pathlib, normexp as nx
    >>> model = nx.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(model, pathlib.Path(folder) / "head.safetensors")
    ...     load_weights(pathlib.Path(folder) / "head.safetensors").predict([[0.2], [2.9]])
    array(['a', 'b'], dtype='<U1')
    """
    numpy_door = _safetensors()
    weights = weights_of(model, "save_weights")
    labels = weights.classes.tolist()
    if not all(isinstance(label, (str, int, float, bool)) for label in labels):
        raise ArtifactError(
            f"save_weights: the labels are of dtype {weights.classes.dtype}; numbers, booleans and texts can be "
            "written."
        )
    told = {
        "format": _FORMAT,
        "classes": json.dumps(labels),
        "classes_dtype": weights.classes.dtype.str if weights.classes.dtype != object else "O",
        "features": json.dumps(weights.names),
    }
    content = numpy_door.save({"weight": weights.coef, "bias": weights.intercept}, metadata=told)
    with write_atomically(path) as stream:
        stream.write(content)


def load_weights(path: str | os.PathLike[str], /) -> Any:
    """Build a SoftmaxClassifier from a safetensors file with ``weight`` and, perhaps, ``bias``.

    Parameters
    ----------
    path : str or path-like
        A file of `save_weights`, or one of the last layer of a network: ``weight`` (K, D), ``bias`` (K,). Without
        labels in the metadata the classes are 0 ... K - 1.

    Returns
    -------
    SoftmaxClassifier
        Ready to predict; ``solution_`` says that the coefficients come from elsewhere.

    Raises
    ------
    ArtifactError
        For a file that is missing, damaged, or holds other tensors; it says what it holds.
    MissingExtraError
        Without the package safetensors.

    Notes
    -----
    A safetensors file cannot run code: it is JSON and numbers.

    Examples
    --------
    See `save_weights`.
    """
    _safetensors()
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  (an optional package)

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            told = file.metadata() or {}
            held = {name: file.get_tensor(name) for name in file.keys() if name in {"weight", "bias"}}  # noqa: SIM118  (it is no dict)
            every = list(file.keys())
    except (SafetensorError, OSError, TypeError, ValueError) as error:  # TypeError: bfloat16, which NumPy lacks
        raise ArtifactError(f"load_weights: {path} cannot be read as safetensors ({error}); write it again.") from error
    weight, bias = held.get("weight"), held.get("bias")
    if weight is None or weight.ndim != 2 or weight.dtype not in (np.float32, np.float64):
        raise ArtifactError(
            f"load_weights: {path} holds {every[:8]!r}; a float32 or float64 tensor 'weight' of shape (classes, "
            "features) is needed, and 'bias' may stand beside it."
        )
    bias = np.zeros(len(weight), weight.dtype) if bias is None else bias.astype(weight.dtype)
    if bias.shape != (len(weight),) or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ArtifactError(
            f"load_weights: {path} holds a weight of shape {weight.shape} and a bias of shape {bias.shape}; one finite "
            "bias for each row of finite weights is needed."
        )
    if told.get("format") == _FORMAT:
        return head_of(_with_labels(path, weight, bias, told))
    if len(weight) == 2:  # the score of class 1 against class 0
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return head_of(LinearWeights(weight, bias, np.arange(max(2, len(weight))), None))


def _with_labels(
    path: str | os.PathLike[str], weight: NDArray[Any], bias: NDArray[Any], told: dict[str, str]
) -> LinearWeights:
    """Read labels and names; the dtype of labels may be of numbers, booleans, texts or objects that are texts."""
    try:
        listed, dtype = json.loads(told["classes"]), np.dtype(told["classes_dtype"])
        classes = np.array(listed if dtype.kind in "iufbUO" else [], dtype=dtype)
        names = json.loads(told["features"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"load_weights: the metadata of {path} are damaged ({error}); write the file again."
        ) from error
    scores = 1 if len(classes) == 2 else len(classes)
    if classes.ndim != 1 or len(weight) != scores or not (names is None or len(names) == weight.shape[1]):
        raise ArtifactError(
            f"load_weights: {path} holds {len(weight)} rows of weights for {classes.size} labels; write the file again."
        )
    return LinearWeights(weight, bias, classes, names)


def _safetensors() -> Any:
    """Return the package, or say in one sentence how to get it."""
    try:
        import safetensors.numpy  # noqa: PLC0415  (an optional package)
    except ModuleNotFoundError:
        raise MissingExtraError("Reading and writing safetensors", "safetensors") from None
    return safetensors.numpy
