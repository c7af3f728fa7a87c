"""`normexp audit`: what it says about networks whose faults are known by construction, and what it refuses."""

import numpy as np
import polars as pl
import pytest

CLASSES = ["cat", "dog", "owl", "elk"]


def drawn(n=600, k=4, seed=0, scale=2.0):
    """Logits that are calibrated by construction, and classes drawn from them."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(n, k))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One over-confident network in every format."""
    folder = tmp_path_factory.mktemp("audit")
    z, y = drawn()
    over = 2.5 * z
    features = np.c_[z, np.random.default_rng(1).normal(size=(len(z), 3))]
    np.savez(folder / "net.npz", logits=over, y=y, features=features)
    np.savez(folder / "two.npz", a=over, b=z, y=y)
    np.save(folder / "logits.npy", over.astype(np.float32))
    np.save(folder / "labels.npy", y)
    np.save(folder / "features.npy", features)
    named = np.array(CLASSES)[y]
    frame = pl.DataFrame({name: softmax(over)[:, k] for k, name in enumerate(CLASSES)})
    frame.with_columns(pl.Series("label", named)).write_csv(folder / "probabilities.csv")
    frame.with_columns(pl.Series("label", named)).write_parquet(folder / "probabilities.parquet")
    np.savetxt(folder / "bare.csv", over, delimiter=",")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in named))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder


def sentence(outcome):
    """The one line that an error is told in."""
    assert outcome.status == 2, (outcome.status, outcome.err, outcome.out)
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("normexp: ")
    return lines[0]


def test_the_installed_command_finds_the_fault_and_its_cure(installed, folder, tmp_path):
    page = tmp_path / "audit.html"
    done = installed("audit", folder / "net.npz", "--labels", "y", "--features", "features", "-o", page)
    assert done.status == 0, done.err
    words = " ".join(done.out.split())
    assert "taken as logits" in words
    assert "It is over-confident" in words
    assert "A cure is known" in words
    assert f"wrote {page}" in words
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "http" not in text.replace("http-equiv", "")
    assert "From logits and features." in text


def test_the_temperature_is_the_one_that_spoiled_the_logits(call, folder):
    facts = call("audit", folder / "net.npz", "--labels", "y", "--json").json
    assert facts["kind"] == "logits"
    assert 2.1 < facts["cure"]["temperature"] < 2.9
    assert facts["cure"]["temperature_gain_low"] > 0.1
    loss = next(score for score in facts["cure"]["scores"] if score["name"] == "log_loss")
    assert loss["before"] - loss["after"] == pytest.approx(loss["gain"])
    assert facts["calibration_p"] == 0.005
    assert facts["intervals"]["overconfidence"][0] > 0.05


def test_a_calibrated_network_is_left_alone(call, tmp_path):
    z, y = drawn(2000, seed=4)
    np.savez(tmp_path / "right.npz", logits=z, y=y)
    facts = call("audit", tmp_path / "right.npz", "--labels", "y", "--json").json
    assert facts["cure"]["chosen"] == "identity"
    assert facts["calibration_p"] > 0.01
    levels = {verdict["name"]: verdict["level"] for verdict in facts["verdicts"]}
    assert levels["calibration"] == levels["cure"] == "green"


def test_a_timid_network_is_called_under_confident(call, tmp_path):
    z, y = drawn(1500, seed=5)
    np.savez(tmp_path / "timid.npz", logits=0.4 * z, y=y)
    facts = call("audit", tmp_path / "timid.npz", "--labels", "y", "--json").json
    assert facts["cure"]["temperature"] < 0.5
    told = next(verdict for verdict in facts["verdicts"] if verdict["name"] == "calibration")
    assert "under-confident" in told["sentence"]


@pytest.mark.parametrize(
    ("file", "labels", "kind"),
    [
        ("logits.npy", "labels.npy", "logits"),
        ("bare.csv", "labels.npy", "logits"),
        ("probabilities.csv", "label", "probabilities"),
        ("probabilities.parquet", "label", "probabilities"),
    ],
)
def test_every_format_says_the_same(call, folder, file, labels, kind):
    given = folder / labels if "." in labels else labels
    facts = call("audit", folder / file, "--labels", given, "--json").json
    assert facts["kind"] == kind
    z, y = drawn()
    assert facts["accuracy"] == pytest.approx((z.argmax(axis=1) == y).mean())
    assert 2.1 < facts["cure"]["temperature"] < 2.9
    names = [entry["name"] for entry in facts["classes"]]
    assert names == (CLASSES if file.startswith("prob") else ["0", "1", "2", "3"])


def test_names_of_classes_come_from_a_file_or_from_the_alphabet_which_is_said(call, folder):
    ordered = call(
        "audit", folder / "logits.npy", "--labels", folder / "labels.txt", "--classes", folder / "classes.txt", "--json"
    )
    guessed = call("audit", folder / "logits.npy", "--labels", folder / "labels.txt", "--json")
    assert ordered.err == ""
    assert ordered.json["accuracy"] > 0.6
    assert "alphabetical order" in guessed.err
    assert [entry["name"] for entry in guessed.json["classes"]] == sorted(CLASSES)


def test_the_promise_of_the_refusal_holds_on_fresh_rows(call, folder):
    facts = call("audit", folder / "net.npz", "--labels", "y", "--target-risk", "0.2", "--json").json
    refusal = facts["refusal"]
    z, y = drawn(4000, seed=9)
    prob = softmax(2.5 * z)
    answered = prob.max(axis=1) > refusal["threshold"]
    assert abs(answered.mean() - refusal["coverage"]) < 0.06
    assert (prob.argmax(axis=1) != y)[answered].mean() <= 0.2
    assert refusal["n_refused"] == round(600 * (1 - refusal["coverage"]))


def test_the_same_seed_gives_the_same_page(call, folder, tmp_path):
    pages = []
    for name in ("a.html", "b.html"):
        assert call("audit", folder / "net.npz", "--labels", "y", "-o", tmp_path / name).status == 0
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


# ---------------------------------------------------------------- what is refused


def spoiled(tmp_path, **changed):
    """A good archive with some arrays replaced."""
    z, y = drawn(200)
    arrays = {"logits": z, "y": y, **changed}
    path = tmp_path / "bad.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def with_nan():
    z, _ = drawn(200)
    z[[3, 17], 1] = np.nan
    return z


def unnormalised():
    p = softmax(drawn(200)[0])
    p[5] *= 0.5
    return p


def repeated():
    z, y = drawn(100)
    return {"logits": np.r_[z, z], "y": np.r_[y, y]}


REFUSED = {
    "NaN": (lambda: {"logits": with_nan()}, "NaN", "rows 3, 17"),
    "no probabilities": (lambda: {"logits": unnormalised()}, "row 5", "do not sum to 1"),
    "sigmoids": (lambda: {"logits": 1 / (1 + np.exp(-drawn(200)[0]))}, "do not sum to 1", "--as logits"),
    "label too large": (lambda: {"y": np.r_[drawn(200)[1][:-1], 4]}, "out of range in row 199", "0 to 3"),
    "labels from 1": (lambda: {"y": drawn(200)[1] + 1}, "run from 1 to 4", "take 1 off"),
    "a class without rows": (lambda: {"y": drawn(200)[1] % 3}, "1 of 4 classes have no row", "“3”"),
    "5 rows for 100 classes": (
        lambda: {"logits": np.random.default_rng(0).normal(size=(5, 100)), "y": np.arange(5)},
        "5 rows came for 100 classes",
        "Give more rows",
    ),
    "one class": (lambda: {"y": np.zeros(200, int)}, "every one of the 200 rows is of class", "at least two classes"),
    "copies": (repeated, "100 of 200 rows (50 %) are an earlier row again", "leak"),
    "shapes": (lambda: {"y": drawn(150)[1]}, "150 labels came for 200 rows", "one for each row"),
    "one column": (lambda: {"logits": drawn(200)[0][:, :1]}, "one number for each row", "1 - p and p"),
    "infinite": (lambda: {"logits": np.where(np.arange(200)[:, None] == 7, np.inf, drawn(200)[0])}, "row 7", "+inf"),
    "huge": (lambda: {"logits": drawn(200)[0] * 1e200}, "rows 0, 1, 2", "beyond 1e100", "divide"),
    "pickled": (lambda: {"logits": np.array([[object()] * 4] * 200, dtype=object)}, "pickle", "could run code"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_judged_is_a_sentence(call, tmp_path, case):
    make, *fragments = REFUSED[case]
    path = spoiled(tmp_path, **make())
    said = sentence(call("audit", path, "--labels", "y", "--take", "logits"))
    for fragment in fragments:
        assert fragment in said


def test_the_installed_command_tells_it_in_a_sentence_too(installed, tmp_path):
    page = tmp_path / "page.html"
    done = installed("audit", spoiled(tmp_path, logits=with_nan()), "--labels", "y", "-o", page)
    assert "rows 3, 17" in sentence(done)
    assert not page.exists()


def test_constant_features_are_refused_and_some_constant_columns_are_not(call, tmp_path):
    path = spoiled(tmp_path, features=np.ones((200, 3)))
    said = sentence(call("audit", path, "--labels", "y", "--features", "features"))
    assert "every column of the features is constant" in said
    nearly = np.zeros((200, 2))
    nearly[[7, 8]] = 1.0
    said = sentence(call("audit", spoiled(tmp_path, features=nearly), "--labels", "y", "--features", "features"))
    assert "every column of the features is constant but for a few rows" in said
    half = np.c_[np.ones(200), np.random.default_rng(0).normal(size=(200, 2))]
    path = spoiled(tmp_path, features=half)
    assert call("audit", path, "--labels", "y", "--features", "features", "--json").json["unknown"]["with_features"]


def test_gaps_and_copies_are_passed_over_when_asked(call, tmp_path):
    missing = spoiled(tmp_path, y=drawn(200)[1] % 3)
    facts = call("audit", missing, "--labels", "y", "--anyway", "--json").json
    assert facts["classes"][3]["recall"] is None
    copies = spoiled(tmp_path, **repeated())
    facts = call("audit", copies, "--labels", "y", "--anyway", "--json").json
    assert facts["n_repeated"] == 100


def test_rows_from_training_are_noticed(call, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    z = rng.normal(size=(400, 4))
    z[np.arange(400), y] = z.max(axis=1) + 0.5  # never wrong, and not sure of it
    np.savez(tmp_path / "train.npz", logits=z, y=y)
    facts = call("audit", tmp_path / "train.npz", "--labels", "y", "--json").json
    assert {v["name"]: v["level"] for v in facts["verdicts"]}["leak"] == "red"


@pytest.mark.parametrize(
    ("file", "options", "fragments"),
    [
        ("notes.pdf", ["--labels", "y"], ["'.pdf'", "numpy.save"]),
        ("absent.npz", ["--labels", "y"], ["there is no such file"]),
        ("net.npz", ["--labels", "z"], ["'z' is neither a file nor the name"]),
        ("one.npz", ["--labels", "y"], ["'z' (5,)", "numpy.column_stack([0 * z, z])"]),
        ("two.npz", ["--labels", "y"], ["several matrices, 'a', 'b'", "--take a"]),
        ("net.npz", ["--labels", "y", "--take", "logit"], ["no array 'logit'", "'logits'"]),
        ("net.npz", ["--labels", "y", "--as", "odds"], ["kind is 'odds'"]),
        ("net.npz", ["--labels", "y", "--coverage", "1.5"], ["coverage is 1.5"]),
        ("net.npz", ["--labels", "y", "--features", "labels.npy"], ["one row for each example"]),
        ("logits.npy", ["--labels", "bare.csv"], ["4 columns", "labels alone"]),
        ("probabilities.csv", ["--labels", "labels.npy"], ["'label' holds", "in row 0", "--take"]),
        ("logits.npy", ["--labels", "labels.txt", "--classes", "labels.txt"], ["600 names of classes", "4 columns"]),
    ],
)
def test_wrong_files_and_options_are_sentences(call, folder, monkeypatch, file, options, fragments):
    monkeypatch.chdir(folder)
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4")
    np.savez(folder / "one.npz", z=np.zeros(5), y=np.zeros(5, dtype=int))
    said = sentence(call("audit", file, *options))
    for fragment in fragments:
        assert fragment in said


def test_the_shares_of_the_training_rows_are_what_there_is_to_beat(call, folder):
    """As counts or as shares, with a header or none, in any order; the log loss of the prior is that of the shares."""
    counts = dict(zip(CLASSES, (100, 50, 40, 10), strict=True))
    _, y = drawn()
    wanted = -np.log(np.array([counts[name] for name in CLASSES])[y] / 200).mean()
    (folder / "counts.csv").write_text("class,rows\n" + "".join(f"{k},{v}\n" for k, v in sorted(counts.items())))
    (folder / "shares.tsv").write_text("".join(f"{k}\t{v / 200}\n" for k, v in counts.items()))
    for name in ("counts.csv", "shares.tsv"):
        ask = ("audit", folder / "probabilities.csv", "--labels", "label", "--json", "--prior", folder / name)
        told = call(*ask).json
        said = next(verdict["sentence"] for verdict in told["verdicts"] if verdict["name"] == "prior")
        assert f"against {wanted:.4g} of predicting" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat,1\ndog,1\nowl,1\n", "no line is for 'elk'"),
        ("cat,1\ndog,1\nowl,1\nelk,1\ncow,1\n", "line 5 is for 'cow', and the classes are 'cat', 'dog'"),
        ("cat,1\ndog,1\nowl,1\nelk,1\ncat,1\n", "line 5 is for 'cat' again"),
        ("class,rows\ncat,1\ndog,0\nowl,1\nelk,1\n", "line 3 holds 'dog,0'"),
        ("cat,1\ndog,many\nowl,1\nelk,1\n", "line 2 holds 'dog,many'"),
        ("cat,1,2\n", "line 1 holds 'cat,1,2'"),
        ("", "no line is for 'cat'"),
        (b"\xff\xfe", "byte 0 is no UTF-8 text"),
        (None, "check the path"),
    ],
)
def test_shares_that_do_not_fit_are_told_by_file_and_line(call, folder, text, words):
    path = folder / ("absent.csv" if text is None else "bad.csv")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    told = sentence(call("audit", folder / "probabilities.csv", "--labels", "label", "--prior", path))
    assert words in told
    assert str(path) in told
