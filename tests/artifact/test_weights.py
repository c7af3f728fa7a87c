"""Weights as safetensors and graphs as ONNX: the predictions come back, and wrong files are told in words."""

import json
import struct

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from normexp import NormexpError, SoftmaxClassifier
from normexp.artifact import load_weights, save_onnx, save_weights
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax

safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def labelled(load, kind):
    X, y = load(return_X_y=True)
    return X, {"int": y, "text": np.array([f"kind {label}" for label in y]), "bool": y > 0}[kind]


MODELS = [SoftmaxClassifier(), SoftmaxClassifier(penalty="l1"), LinearDiscriminant(), NaiveBayesSoftmax()]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m).__name__}{getattr(m, 'penalty', '')}")
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("kind", ["int", "text", "bool"])
def test_weights_come_back_with_bitwise_the_same_predictions(model, load, kind, tmp_path):
    X, y = labelled(load, kind)
    model.fit(X, y)
    save_weights(model, tmp_path / "head.safetensors")
    again = load_weights(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.classes_.dtype == model.classes_.dtype
    assert not again.solution_.converged


def test_names_and_float32_are_kept(tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = SoftmaxClassifier().fit(X.astype(np.float32), y)
    save_weights(model.sparsify(), tmp_path / "head.safetensors")
    again = load_weights(tmp_path / "head.safetensors")
    assert again.coef_.dtype == np.float32
    assert list(again.feature_names_in_) == list(X.columns)


def test_the_last_layer_of_a_network_is_a_classifier(tmp_path, rng):
    torch = pytest.importorskip("torch")
    X = rng.normal(size=(20, 4)).astype(np.float32)
    for count in (2, 5):
        layer = torch.nn.Linear(4, count)
        state = {name: part.detach().numpy() for name, part in layer.state_dict().items()}
        safetensors.save_file(state, tmp_path / "layer.safetensors")
        with torch.no_grad():
            wanted = torch.softmax(layer(torch.from_numpy(X)), dim=-1).numpy()
        np.testing.assert_allclose(load_weights(tmp_path / "layer.safetensors").predict_proba(X), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"other": np.zeros((2, 2))}, "'weight' of shape"),
        ({"weight": np.zeros(3)}, "'weight' of shape"),
        ({"weight": np.zeros((3, 2)), "bias": np.zeros(2)}, "one finite bias"),
        ({"weight": np.full((3, 2), np.nan)}, "finite"),
    ],
)
def test_other_tensors_are_told(tensors, words, tmp_path):
    safetensors.save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(NormexpError, match=words):
        load_weights(tmp_path / "x.safetensors")


def test_damaged_files_are_told(tmp_path):
    X, y = load_wine(return_X_y=True)
    place = tmp_path / "x.safetensors"
    with pytest.raises(NormexpError, match="cannot be read as safetensors"):
        load_weights(place)
    save_weights(SoftmaxClassifier().fit(X, y), place)
    whole = place.read_bytes()
    place.write_bytes(whole[:-9])
    with pytest.raises(NormexpError, match="cannot be read as safetensors"):
        load_weights(place)
    size = struct.unpack("<Q", whole[:8])[0]
    head = json.loads(whole[8 : 8 + size])
    for change in ({"classes": "[0, 1]"}, {"classes": "nonsense"}, {"classes_dtype": "V8"}):
        told = json.dumps({**head, "__metadata__": {**head["__metadata__"], **change}}).encode()
        place.write_bytes(struct.pack("<Q", len(told)) + told + whole[8 + size :])
        with pytest.raises(NormexpError, match="write the file again"):
            load_weights(place)


def test_what_is_no_linear_head_is_told(tmp_path):
    with pytest.raises(NormexpError, match="a LogisticRegression came"):
        save_weights(LogisticRegression(), tmp_path / "x")
    with pytest.raises(NormexpError, match="not fitted"):
        save_onnx(SoftmaxClassifier(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- ONNX


def run(path, X):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities", "log_probabilities"], {"features": X})


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m).__name__}{getattr(m, 'penalty', '')}")
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("kind", ["int", "text", "bool"])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float64", 1e-12)])
def test_onnxruntime_gives_the_same_probabilities(model, load, kind, dtype, bound, tmp_path):
    X, y = labelled(load, kind)
    model.fit(X, y)
    save_onnx(model, tmp_path / "model.onnx", dtype=dtype)
    given = X.astype(dtype)
    label, prob, log_prob = run(tmp_path / "model.onnx", given)
    wanted, logs = model.predict_proba(given.astype(float)), model.predict_log_proba(given.astype(float))
    seen = wanted > 1e-30  # smaller ones are not normal numbers of float32
    assert prob.dtype == dtype
    np.testing.assert_allclose(prob[seen], wanted[seen], rtol=bound)
    np.testing.assert_allclose(log_prob, logs, rtol=10 * bound, atol=bound)
    assert label.tolist() == model.predict(given.astype(float)).astype(label.dtype).tolist()


def test_all_in_float32_would_not_keep_that_bound(tmp_path):
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y)
    save_onnx(model, tmp_path / "model.onnx", arithmetic="float32")
    given = X.astype(np.float32)
    _, prob, _ = run(tmp_path / "model.onnx", given)
    wanted = model.predict_proba(given.astype(float))
    error = np.abs(prob - wanted)[wanted > 1e-30] / wanted[wanted > 1e-30]
    assert 1e-6 < error.max() < 1e-2


def test_options_and_labels_that_onnx_lacks_are_told(tmp_path):
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y.astype(float))
    with pytest.raises(NormexpError, match=r"y\.astype\(str\)"):
        save_onnx(model, tmp_path / "x")
    with pytest.raises(NormexpError, match="dtype is 'half'"):
        save_onnx(model, tmp_path / "x", dtype="half")
