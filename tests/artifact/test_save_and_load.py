"""What is saved comes back to the last bit, and a kill at any moment leaves the old file or the new one."""

import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import normexp as nx
from artifact.crafted import container, manifest_of, node, sealed_zip
from normexp.artifact.container import read_container
from normexp.artifact.payload import pack
from normexp.base.errors import ArtifactError
from normexp.tables import open_source
from normexp.trusted import TableClassifier


def clouds(n_rows=90, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n_rows)
    return rng.normal(size=(n_rows, 5)) + 2 * np.eye(n_classes, 5)[y], y


@pytest.fixture
def again(tmp_path):
    """Save and load a model."""

    def again(model):
        nx.save(model, tmp_path / "model.nx")
        return nx.load(tmp_path / "model.nx")

    return again


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("labels", ["int", "str", "object", "bool-like"])
def test_a_loaded_classifier_predicts_bitwise_the_same(again, n_classes, labels):
    X, y = clouds(n_classes=n_classes)
    y = {
        "int": y * 10 - 5,
        "str": np.array(["a", "bb", "ccc"])[y],
        "object": np.array(["a", "bb", "ccc"], dtype=object)[y],
        "bool-like": y.astype(np.uint8),
    }[labels]
    model = nx.SoftmaxClassifier(C=3.0).fit(X, y)
    loaded = again(model)
    assert type(loaded) is nx.SoftmaxClassifier
    assert loaded.get_params() == model.get_params()
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert loaded.predict_log_proba(X).tobytes() == model.predict_log_proba(X).tobytes()
    assert (loaded.predict(X) == model.predict(X)).all()
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.solution_.outcome is model.solution_.outcome
    assert loaded.suboptimality_ == model.suboptimality_


def test_a_sparse_model_comes_back_sparse(again):
    X, y = clouds()
    model = nx.SoftmaxClassifier().fit(X, y).sparsify()
    loaded = again(model)
    assert sparse.issparse(loaded.coef_)
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_class_weights_come_back(again):
    X, y = clouds()
    loaded = again(nx.SoftmaxClassifier(class_weight={0: 1.0, 1: 2.0, 2: 0.5}).fit(X, y))
    assert loaded.class_weight == {0: 1.0, 1: 2.0, 2: 0.5}


@pytest.mark.parametrize(
    "options",
    [
        {"Cs": [0.1, 1.0, 10.0]},
        {"Cs": 3, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}, "scoring": "accuracy"},
        {"Cs": 3, "penalty": "elasticnet", "l1_ratios": [0.2, 0.8]},
        {"Cs": np.array([0.5, 5.0]), "penalty": "group_lasso", "penalty_factor": np.array([1.0, 0.0, 1.0, 2.0, 1.0])},
    ],
)
def test_a_cross_validated_classifier_comes_back_whole(again, options):
    X, y = clouds()
    model = nx.SoftmaxClassifierCV(cv=3, **options).fit(X, y)
    loaded = again(model)
    assert type(loaded) is nx.SoftmaxClassifierCV
    assert str(loaded.get_params()) == str(model.get_params())
    assert set(vars(loaded)) == set(vars(model))
    assert (loaded.C_, loaded.l1_ratio_) == (model.C_, model.l1_ratio_)
    for name in ("Cs_", "scores_", "coef_", "intercept_", "classes_", "n_iter_"):
        mine, its = getattr(loaded, name), getattr(model, name)
        assert mine.dtype == its.dtype, name
        assert mine.tobytes() == its.tobytes(), name
    assert loaded.solution_ == model.solution_
    assert loaded.suboptimality_ == model.suboptimality_
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert loaded.predict_top_k(X, 2)[0].tolist() == model.predict_top_k(X, 2)[0].tolist()


def test_a_cross_validated_classifier_with_foreign_parts_is_not_saved(tmp_path):
    """A splitter and a scorer of one's own are not on the list, and a file that named them could name any."""
    from sklearn.model_selection import StratifiedKFold

    X, y = clouds()
    for options, part in (
        ({"cv": StratifiedKFold(3)}, "StratifiedKFold"),
        ({"cv": 3, "scoring": lambda model, X, y: model.score(X, y)}, "save: "),
    ):
        with pytest.raises(ArtifactError, match=part):
            nx.save(nx.SoftmaxClassifierCV(Cs=2, **options).fit(X, y), tmp_path / "m.nx")
    with pytest.raises(ArtifactError, match="call fit before save"):
        nx.save(nx.SoftmaxClassifierCV(), tmp_path / "m.nx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with a column of every kind, gaps, many and few values, and odd names."""
    rng = np.random.default_rng(1)
    n = 150
    frame = pl.DataFrame(
        {
            "number": rng.normal(size=n),
            "gaps": [None if i % 7 == 0 else float(i) for i in range(n)],
            "few": rng.choice(["a", "b", "c"], n),
            "many": [f"word{i} other{i * 7 % 50}" for i in range(n)],
            "day": np.datetime64("2024-01-01") + rng.integers(0, 400, n),
            "moment": np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 10**12, n),
            "yes": rng.integers(0, 2, n).astype(bool),
            "__loader__": rng.normal(size=n),
            "__id__": rng.choice(["x", "y"], n),
            "message": [" ".join(rng.choice(["win", "cash", "see", "you", "at", "lunch"], 6)) for _ in range(n)],
            "kind": rng.choice(["p", "q", "r"], n),
        }
    )
    path = tmp_path_factory.mktemp("table") / "all.parquet"
    frame.write_parquet(path)
    return path


@pytest.mark.parametrize("text", [None, "message"])
def test_a_loaded_table_classifier_predicts_bitwise_the_same(again, table, text):
    """With every kind of column: what skrub, scikit-learn and polars leave in a fitted model is on the list."""
    model = TableClassifier().fit(open_source(table, target="kind", text=text))
    loaded = again(model)
    before = [batch.to_frame() for batch in model.predict_batches(open_source(table), top_k=3)]
    after = [batch.to_frame() for batch in loaded.predict_batches(open_source(table), top_k=3)]
    assert len(before) == len(after) == 1
    assert before[0].equals(after[0])
    assert loaded.training_ == model.training_
    assert loaded.schema_ == model.schema_


def test_saving_twice_gives_the_same_bytes(tmp_path, table):
    """Also across a load: the file depends on the model, not on the process that writes it."""
    model = TableClassifier().fit(open_source(table, target="kind"))
    nx.save(model, tmp_path / "a.nx")
    nx.save(nx.load(tmp_path / "a.nx"), tmp_path / "b.nx")
    assert (tmp_path / "a.nx").read_bytes() == (tmp_path / "b.nx").read_bytes()


def test_the_manifest_says_what_the_file_is(tmp_path):
    nx.save(nx.SoftmaxClassifier().fit(*clouds()), tmp_path / "m.nx")
    with zipfile.ZipFile(tmp_path / "m.nx") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["format"] == "normexp model"
    assert manifest["format_version"] == 1
    assert manifest["model_class"] == "SoftmaxClassifier"
    assert manifest["normexp_version"] == nx.__version__
    assert manifest["versions"]["numpy"] == np.__version__


def test_any_altered_byte_of_a_real_model_is_refused(tmp_path):
    path = tmp_path / "m.nx"
    nx.save(nx.SoftmaxClassifier().fit(*clouds()), path)
    raw = path.read_bytes()
    for position in np.unique(np.linspace(0, len(raw) - 1, 300).astype(int)):
        altered = bytearray(raw)
        altered[position] ^= 1 << int(position) % 8
        path.write_bytes(altered)
        with pytest.raises(ArtifactError):
            read_container(path)
    path.write_bytes(raw)
    nx.load(path)


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (LogisticRegression(), "LogisticRegression came; SoftmaxClassifier and TableClassifier can be saved"),
        ({"a": 1}, "dict came"),
        (nx.NormexpError, "type came"),
        (None, "NoneType came"),
    ],
)
def test_other_things_are_not_saved(tmp_path, model, part):
    with pytest.raises(ArtifactError, match=part):
        nx.save(model, tmp_path / "m.nx")
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_the_same_name_from_elsewhere_is_not_saved(tmp_path):
    foreign = type("SoftmaxClassifier", (), {"__module__": "elsewhere", "classes_": [0, 1]})()
    with pytest.raises(ArtifactError, match=r"elsewhere\.SoftmaxClassifier came"):
        nx.save(foreign, tmp_path / "m.nx")


def test_a_model_that_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(ArtifactError, match="call fit before save"):
        nx.save(nx.SoftmaxClassifier(), tmp_path / "m.nx")


@pytest.mark.parametrize("function", [np.log1p, print, lambda x: x])
def test_a_model_that_holds_a_function_is_not_saved(tmp_path, table, function):
    """Also a harmless one: a file that names functions could name any."""
    numbers = table.parent / "numbers.npz"
    X, y = clouds()
    np.savez(numbers, X=np.abs(X), y=y)
    estimator = make_pipeline(FunctionTransformer(func=np.log1p), LogisticRegression())
    model = TableClassifier(estimator=estimator).fit(open_source(numbers))
    model.estimator_.steps[0][1].func = function
    with pytest.raises(ArtifactError, match="save: "):
        nx.save(model, tmp_path / "m.nx")
    assert list(tmp_path.iterdir()) == []


def test_scikit_learn_parts_of_the_list_are_saved_inside_a_table_classifier(again, table):
    numbers = table.parent / "plain.npz"
    X, y = clouds()
    np.savez(numbers, X=X, y=y)
    model = TableClassifier(estimator=make_pipeline(StandardScaler(), LogisticRegression())).fit(open_source(numbers))
    loaded = again(model)
    assert loaded.decision_function(X).tobytes() == model.decision_function(X).tobytes()


def test_another_version_of_scikit_learn_is_told_as_one_warning(tmp_path, monkeypatch, table):
    import sklearn.base

    model = TableClassifier().fit(open_source(table, target="kind"))
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.5.0")
        nx.save(model, tmp_path / "m.nx")
    with pytest.warns(nx.NormexpWarning, match=r"fitted with scikit-learn 1\.5\.0") as caught:
        nx.load(tmp_path / "m.nx")
    assert len(caught) == 1


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        nx.save(nx.SoftmaxClassifier().fit(*clouds()), tmp_path / "nowhere" / "m.nx")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.nx"
    nx.save(nx.SoftmaxClassifier().fit(*clouds(seed=1)), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(nx.NormexpError, match="disk is full"):
        nx.save(nx.SoftmaxClassifier().fit(*clouds(seed=2)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.nx"]


KILL_AND_LOOK = textwrap.dedent(
    """
    import itertools, os, pathlib, random, signal, sys, time
    import numpy as np
    import normexp as nx

    path, moments, rng = pathlib.Path(sys.argv[1]), random.Random(11), np.random.default_rng(0)
    X = rng.normal(size=(60, 400))
    models = [nx.SoftmaxClassifier(max_iter=3).fit(X, rng.permutation(60) % 3) for _ in range(2)]
    nx.save(models[0], path)
    nx.load(path)
    for _ in range(40):
        child = os.fork()
        if child == 0:  # it does nothing but save, until it is killed
            for turn in itertools.count(1):
                nx.save(models[turn % 2], path)
        time.sleep(moments.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        loaded = nx.load(path)
        which = [loaded.coef_.tobytes() == model.coef_.tobytes() for model in models]
        print(which.index(True), *(entry.name for entry in path.parent.iterdir() if entry != path))
        for entry in path.parent.iterdir():
            if entry != path:
                entry.unlink()
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path):
    """Forty processes that do nothing but save are killed at random moments; what they leave loads, every time."""
    path = tmp_path / "m.nx"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILL_AND_LOOK, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rounds = [line.split() for line in done.stdout.splitlines()]
    assert len(rounds) == 40
    assert {which for which, *_ in rounds} == {"0", "1"}, "only one of the two models was ever left"
    strays = [name for _, *names in rounds for name in names]
    assert strays, "no process was killed while it wrote: the test has shown nothing"
    for name in strays:  # hidden, of another suffix: no pattern such as *.nx takes one for a model
        assert name.startswith(".")
        assert name.endswith(".part")
    assert list(tmp_path.glob("*.nx")) == [path]


def test_packing_is_refused_where_reading_would_be(monkeypatch):
    """The audit of loading runs before anything is written."""
    monkeypatch.setattr("normexp.artifact.audit.ALLOWED", {})
    with pytest.raises(ArtifactError, match="may not name"):
        pack(nx.SoftmaxClassifier().fit(*clouds()))


def _altered(payload_bytes, alter):
    """The payload with another schema."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload_bytes)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                alter(schema)
                content = json.dumps(schema).encode()
            new.writestr(name, content)
    return stream.getvalue()


def test_a_cross_validated_file_is_held_to_the_list_like_the_others(tmp_path):
    path, model = tmp_path / "m.nx", nx.SoftmaxClassifierCV(Cs=2, cv=3).fit(*clouds())
    good = pack(model)

    def refusal(raw):
        path.write_bytes(raw)
        with pytest.raises(ArtifactError) as caught:
            nx.load(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def with_attribute(loader, name):
        def alter(schema):
            schema["content"]["content"]["more_"] = node(loader, name)

        return container(_altered(good, alter), model_class="SoftmaxClassifierCV")

    assert "names os.system" in refusal(with_attribute("TypeNode", "os.system"))
    assert "GridSearchCV" in refusal(with_attribute("ObjectNode", "sklearn.model_selection._search.GridSearchCV"))
    newer = manifest_of(container(good, model_class="SoftmaxClassifierCV")) | {"format_version": 2}
    assert "format version 2 (written by normexp" in refusal(
        sealed_zip([("manifest.json", json.dumps(newer)), ("payload.skops", good)])
    )
    assert "says it holds a SoftmaxClassifier and holds a SoftmaxClassifierCV" in refusal(container(good))
    path.write_bytes(container(_altered(good, lambda schema: None), model_class="SoftmaxClassifierCV"))
    assert nx.load(path).C_ == model.C_
