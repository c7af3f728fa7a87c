"""Files made to do harm, each sealed as nx.save would: none of them runs anything.

Every attack has a twin that shows it is real: the same bytes, given to a loader that trusts them, run the code.
"""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import sklearn
import skops.io

import normexp as nx
from artifact.crafted import container, items, mapping, node, payload, sealed_zip, text
from normexp.artifact.allowlist import ALLOWED, FUNCTIONS, TRUSTED
from normexp.artifact.audit import PROTOCOL, audit_payload
from normexp.base.errors import ArtifactError


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def load_payload(folder, raw):
    """Load a sealed file around a payload."""
    path = folder / "model.nx"
    path.write_bytes(container(raw))
    return nx.load(path)


def refusal(folder, raw):
    with pytest.raises(ArtifactError) as caught:
        load_payload(folder, raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


# ------------------------------------------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_opened(tmp_path, protocol):
    canary = tmp_path / "ran"
    path = tmp_path / "model.nx"
    path.write_bytes(pickle.dumps(Bomb(canary), protocol=protocol))
    with pytest.raises(ArtifactError, match="pickle" if protocol >= 2 else "not a normexp model file"):
        nx.load(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())
    assert canary.exists()


@pytest.mark.parametrize("name", ["payload.skops", "data.pkl"])
def test_a_sealed_zip_with_a_pickle_inside_is_never_opened(tmp_path, name):
    canary = tmp_path / "ran"
    raw = pickle.dumps(Bomb(canary))
    path = tmp_path / "model.nx"
    manifest = zipfile.ZipFile(io.BytesIO(container(raw))).read("manifest.json")
    path.write_bytes(sealed_zip([("manifest.json", manifest), (name, raw)]))
    with pytest.raises(ArtifactError):
        nx.load(path)
    assert not canary.exists()


def test_a_pickle_beside_the_schema_is_refused(tmp_path):
    message = refusal(tmp_path, payload(text(1), evil__pkl=pickle.dumps(Bomb(tmp_path / "ran"))))
    assert "evil.pkl" in message


def test_an_object_array_is_never_unpickled(tmp_path):
    """An array of objects in NumPy's own format is a pickle inside."""
    canary = tmp_path / "ran"
    raw = npy(np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    tree = node("NdArrayNode", "numpy.ndarray", type="numpy", file="0.npy")
    assert "can hold pickles" in refusal(tmp_path, payload(tree, **{"0__npy": raw}))
    assert not canary.exists()
    np.load(io.BytesIO(raw), allow_pickle=True)
    assert canary.exists()


def test_an_object_array_inside_a_sparse_matrix_is_never_unpickled(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, evil=np.array([Bomb(tmp_path / "ran")], dtype=object), allow_pickle=True)
    tree = node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", type="scipy", file="0.npz")
    assert "can hold pickles" in refusal(tmp_path, payload(tree, **{"0__npz": stream.getvalue()}))


# ------------------------------------------------------------------------------------------------- names


def test_a_file_that_calls_os_mkdir_is_refused(tmp_path):
    """skops builds this node by calling what it names: with os.mkdir trusted, the folder appears."""
    canary = tmp_path / "ran"
    raw = payload(node("ConstructorFromReduceNode", "os.mkdir", content=items(text(str(canary)))))
    assert "os.mkdir" in refusal(tmp_path, raw)
    assert not canary.exists()
    skops.io.loads(raw, trusted=["os.mkdir"])
    assert canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__",
        "builtins.open", "subprocess.Popen", "pickle.loads", "importlib.import_module", "numpy.load", "shutil.rmtree",
        "functools.partial", "operator.attrgetter", "operator.methodcaller", "types.FunctionType",
        "sklearn.preprocessing._function_transformer.FunctionTransformer", "joblib.numpy_pickle.load",
        "normexp.artifact.store.load", "normexp.linear_model.softmax_classifier.SoftmaxClassifier.__init__",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "loader",
    [
        "FunctionNode", "TypeNode", "ObjectNode", "ConstructorFromReduceNode", "PartialNode", "MethodNode",
        "OperatorFuncNode", "NdArrayNode", "DictNode", "TupleNode", "LossNode", "TreeNode", "CachedNode",
        "RandomGeneratorNode", "BytesNode", "DefaultDictNode",
    ],
)  # fmt: skip
def test_a_foreign_name_is_refused_under_every_loader(loader, name):
    with pytest.raises(ArtifactError, match="not on normexp's list"):
        audit_payload(payload(node(loader, name, content=[], file="0.npy")))


@pytest.mark.parametrize(
    "full_name", [*sorted(FUNCTIONS)[:3], "builtins.str", "normexp.trusted.labelled.TrainingFacts"]
)
def test_a_listed_name_is_refused_under_a_loader_it_is_not_listed_for(full_name):
    """What may stand as a value may not be called, and the other way round."""
    with pytest.raises(ArtifactError, match="not on normexp's list"):
        audit_payload(payload(node("ConstructorFromReduceNode", full_name, content=items())))


@pytest.mark.parametrize("place", ["content", "key_types", "anything", "__reduce__"])
def test_a_foreign_name_is_found_at_any_depth(place):
    hidden = node("FunctionNode", "os.system")
    tree = mapping(a=items(text(1), {**mapping(), place: {"deep": [[hidden]]}}))
    with pytest.raises(ArtifactError, match=r"os\.system"):
        audit_payload(payload(tree))


def test_what_skops_trusts_by_itself_is_not_enough(tmp_path):
    """skops trusts all estimators of scikit-learn; this list names a few."""
    tree = node(
        "ObjectNode",
        "sklearn.dummy.DummyClassifier",
        content=mapping(strategy=text("prior"), _sklearn_version=text(sklearn.__version__)),
    )
    raw = payload(tree)
    assert type(skops.io.loads(raw)).__name__ == "DummyClassifier"
    assert "DummyClassifier" in refusal(tmp_path, raw)


def test_a_listed_part_alone_is_not_a_model(tmp_path):
    tree = node(
        "ObjectNode",
        "sklearn.preprocessing._data.MaxAbsScaler",
        content=mapping(copy=text(True), _sklearn_version=text(sklearn.__version__)),
    )
    assert "holds a MaxAbsScaler" in refusal(tmp_path, payload(tree))


def test_older_protocols_of_skops_are_refused(tmp_path):
    """The builders of older protocols took fewer precautions; the file chooses the protocol."""
    for protocol in (0, 1, PROTOCOL + 1, None, True, "2", 2.5):
        assert "protocol" in refusal(tmp_path, payload(text(1), protocol=protocol))


@pytest.mark.parametrize("name", ["CountVectorizer", "HashingVectorizer", "TfidfVectorizer"])
@pytest.mark.parametrize(
    "option",
    [
        text("filename"),
        text("file"),
        node("TypeNode", "builtins.str"),
        node("NdArrayNode", "numpy.str_", type="numpy", file="0.npy"),
    ],
)
def test_a_text_encoder_that_would_read_files_is_refused(tmp_path, name, option):
    """With input="filename" it opens what the rows of a table name."""
    tree = node("ObjectNode", f"sklearn.feature_extraction.text.{name}", content=mapping(input=option))
    assert "input='content'" in refusal(tmp_path, payload(tree, **{"0__npy": npy(np.str_("filename"))}))
    tree["content"] = text("no options")
    assert "without its options" in refusal(tmp_path, payload(tree))


def test_a_column_may_be_called_input():
    audit_payload(payload(mapping(input=text("anything"))))


def numbered(tree, number=5):
    """The node with a number."""
    return {**tree, "__id__": number}


def test_a_known_number_cannot_stand_for_another_object(tmp_path):
    """skops takes a number it knows for what it built first, so a file could show one thing and build another."""
    raw = payload(items(numbered(text("shown")), numbered(text("built"))))
    assert skops.io.loads(raw) == ("shown", "shown")
    assert "numbers an object that is no array" in refusal(tmp_path, raw)


@pytest.mark.parametrize(
    "tree",
    [
        numbered(mapping()),
        numbered({**text(1), "file": "0.npy", "type": "numpy"}),
        numbered(node("NdArrayNode", "numpy.ndarray", type="json", content=[], shape=items(text(0)), file="0.npy")),
        numbered(node("NdArrayNode", "numpy.ndarray", type="numpy", file="0.npy"), number="5"),
        numbered(node("NdArrayNode", "numpy.ndarray", type="numpy", file="0.npy"), number=[5]),
    ],
)
def test_only_arrays_are_numbered(tree):
    with pytest.raises(ArtifactError, match="numbers an object that is no array"):
        audit_payload(payload(tree, **{"0__npy": npy(np.zeros(2))}))


def test_one_number_stands_for_one_array():
    one, other = (node("NdArrayNode", "numpy.ndarray", type="numpy", file=f"{i}.npy") for i in (0, 1))
    members = {"0__npy": npy(np.zeros(2)), "1__npy": npy(np.ones(2))}
    audit_payload(payload(items(numbered(one), numbered(one), numbered(other, 6)), **members))
    with pytest.raises(ArtifactError, match="two different arrays"):
        audit_payload(payload(items(numbered(one), numbered(other)), **members))


def test_no_listed_function_takes_code():
    """The list holds no builtin and nothing of os, sys, operator, functools or of a module that runs things."""
    roots = {name.partition(".")[0] for names in ALLOWED.values() for name in names}
    assert roots == {"builtins", "normexp", "numpy", "polars", "scipy", "sklearn", "skrub"}
    builtins = {name for name in TRUSTED if name.startswith("builtins.")}
    assert builtins == {
        f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "set", "slice", "str", "tuple")
    }
    assert "ConstructorFromReduceNode" not in ALLOWED or not ALLOWED["ConstructorFromReduceNode"] & FUNCTIONS
    for loader in ("PartialNode", "MethodNode", "OperatorFuncNode", "CachedNode", "DefaultDictNode"):
        assert loader not in ALLOWED


# ------------------------------------------------------------------------------------------------- sizes and shapes


def test_a_bomb_in_the_schema_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (1 << 27))
    assert len(stream.getvalue()) < 1 << 19
    with pytest.raises(ArtifactError, match="unfold"):
        audit_payload(stream.getvalue())


def test_a_bomb_in_a_sparse_matrix_is_refused():
    stream = io.BytesIO()
    np.savez_compressed(stream, data=np.zeros(1 << 24))
    tree = node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", type="scipy", file="0.npz")
    with pytest.raises(ArtifactError, match="unfold"):
        audit_payload(payload(tree, **{"0__npz": stream.getvalue()}))


def test_objects_inside_objects_without_end_are_refused():
    tree = text(1)
    for _ in range(400):
        tree = items(tree)
    with pytest.raises(ArtifactError, match="beyond any real model"):
        audit_payload(payload(tree))


def test_an_array_that_claims_more_than_it_holds_is_refused():
    """NumPy would first reserve the memory that the header asks for."""
    raw = npy(np.zeros(4)).replace(b"(4,)", b"(9,)")
    tree = node("NdArrayNode", "numpy.ndarray", type="numpy", file="0.npy")
    with pytest.raises(ArtifactError):
        audit_payload(payload(tree, **{"0__npy": raw}))
    with pytest.raises(ArtifactError, match="has not the size that its shape"):
        audit_payload(payload(tree, **{"0__npy": npy(np.zeros(4))[:-8]}))


@pytest.mark.parametrize("dtype", ["V8", "O", [("a", "f8"), ("b", "O")], "c16", "M8[s]"])
def test_only_plain_dtypes_are_loaded(dtype):
    raw = npy(np.zeros(2, dtype=dtype), allow_pickle=True)
    tree = node("NdArrayNode", "numpy.ndarray", type="numpy", file="0.npy")
    with pytest.raises(ArtifactError, match="only numbers, booleans and texts"):
        audit_payload(payload(tree, **{"0__npy": raw}))


@pytest.mark.parametrize("schema", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff", b'{"protocol": 2}', b'"text"'])
def test_a_schema_that_is_no_tree_is_refused(tmp_path, schema):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("schema.json", schema)
    refusal(tmp_path, stream.getvalue())


def test_nodes_that_lack_their_parts_are_refused_with_a_sentence(tmp_path):
    for tree in (
        node("NdArrayNode", "numpy.ndarray", type="numpy", file="none.npy"),
        node("NdArrayNode", "numpy.ndarray", type="numpy"),
        node("DictNode", "builtins.dict", content={}),
        node("JsonNode", "builtins.str", content="{"),
        node("ObjectNode", "normexp.trusted.labelled.TrainingFacts", content=text([1])),
    ):
        refusal(tmp_path, payload(tree))
