"""`--cost FILE`: decisions follow a table of costs, at the fit and after it, and a wrong table is a sentence."""

import numpy as np
import polars as pl
import pytest

import normexp as nx
from normexp.base.errors import NormexpError

FIT = ("--target", "kind", "-o")


@pytest.fixture(scope="module")
def mails(tmp_path_factory):
    """Three kinds of mail that are hard to tell apart, a model of them, and tables of costs."""
    folder = tmp_path_factory.mktemp("mails")
    rng = np.random.default_rng(0)
    y = rng.choice(3, 700, p=[0.6, 0.3, 0.1])
    x = rng.normal(size=(700, 3)) + 1.3 * np.eye(3)[y]
    names = np.array(["ham", "offer", "spam"])
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": names[y]})
    frame[:500].write_csv(folder / "train.csv")
    frame[500:].write_csv(folder / "test.csv")
    # Another order than the classes', and a price of refusing.
    (folder / "costs.csv").write_text("true,spam,unknown,ham,offer\nspam,0,0.4,9,3\nham,4,0.4,0,1\noffer,2,0.4,1,0\n")
    (folder / "free.csv").write_text("\ufeff,ham,offer,spam\nham, 0 ,1,1\noffer,1,0,1\nspam,1,1,0\n", encoding="utf-8")
    return folder


def expected(prob, *, refusing):
    """Decisions of least expected cost, from the definition: the costs in the order of the classes."""
    cost = np.array([[0, 1, 4, 0.4], [1, 0, 2, 0.4], [9, 3, 0, 0.4]])
    name = np.array(["ham", "offer", "spam", "unknown"])
    return name[(prob @ cost[:, : 4 if refusing else 3]).argmin(axis=1)]


def test_decisions_have_the_least_expected_cost_whether_given_at_the_fit_or_after_it(installed, mails):
    fitted = installed("fit", mails / "train.csv", *FIT, mails / "c.nx", "--cost", mails / "costs.csv", "--reject", "0")
    assert fitted.status == 0, fitted.err
    assert "for the least expected cost" in fitted.out
    assert installed("fit", mails / "train.csv", *FIT, mails / "m.nx", "--reject", "0").status == 0
    ask = ("predict", mails / "c.nx", mails / "test.csv", "--top-k", 3, "-o", mails / "c.csv")
    assert installed(*ask).status == 0
    late = installed(
        "predict", mails / "m.nx", mails / "test.csv", "-o", mails / "m.csv", "--cost", mails / "costs.csv"
    )
    assert late.status == 0, late.err
    told, later = pl.read_csv(mails / "c.csv"), pl.read_csv(mails / "m.csv")
    classes = ["ham", "offer", "spam"]
    prob = np.zeros((len(told), 3))
    for rank in (1, 2, 3):
        column = [classes.index(name) for name in told[f"top_{rank}"]]
        prob[np.arange(len(told)), column] = told[f"top_{rank}_probability"].to_numpy()
    assert (told["decision"].to_numpy() == expected(prob, refusing=True)).all()
    assert later["decision"].equals(told["decision"])
    assert later["probability"].equals(told["probability"])
    assert set(told["decision"]) == {"ham", "offer", "spam", "unknown"}
    assert (told["decision"] != told["label"]).mean() > 0.2
    # Costs that are alike for all errors decide for the label; they replace those of the fit.
    usual = installed(
        "predict", mails / "c.nx", mails / "test.csv", "-o", mails / "u.csv", "--cost", mails / "free.csv"
    )
    assert usual.status == 0, usual.err
    assert pl.read_csv(mails / "u.csv")["decision"].equals(told["label"])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("t,ham,offer,spam\nham,0,1,1\noffer,1,0,1\n", "no line is for the true class 'spam'"),
        ("t,ham,offer\nham,0,1\noffer,1,0\nspam,1,1\n", "line 1, the header, has no column for the decision 'spam'"),
        ("\nt,ham,offer,sham\nham,0,1,1\noffer,1,0,1\n", "line 2, column 4 is for the decision 'sham', and"),
        ("t,ham,offer,spam\nham,0,1,1\noffer,1,0,1\nsham,1,1,0\n", "line 4 is for the true class 'sham', and the"),
        ("t,ham,offer,spam\nham,0,1,much\noffer,1,0,1\nspam,1,1,0\n", "line 2 holds 'much' in the column 'spam'"),
        ("t,ham,offer,spam\nham,0,1,\noffer,1,0,1\nspam,1,1,0\n", "line 2 holds '' in the column 'spam'"),
        ("t,ham,offer,spam\nham,0,1,nan\noffer,1,0,1\nspam,1,1,0\n", "line 2 holds 'nan'"),
        ("t,ham,offer,spam\nham,0,1\noffer,1,0,1\nspam,1,1,0\n", "line 2 holds 2 costs and the header 3 decisions"),
        ("t,ham,ham,spam\nham,0,1,1\noffer,1,0,1\nspam,1,1,0\n", "'ham' names more than one column"),
        ("t,ham,offer,spam\nham,0,1,1\nham,1,0,1\nspam,1,1,0\n", "'ham' names more than one row"),
        ("t,ham,offer,spam\nham,5,1,1\noffer,1,0,1\nspam,1,1,0\n", "line 2, column 3 says that for the true class"),
        ("t,ham,,spam\nham,5,1,1\n", "a column has no name"),
        ("", "this is no table of costs"),
        ("ham\n0\n", "this is no table of costs"),
        (b"\xff\xfe\x00", "byte 0 is no UTF-8 text"),
    ],
)
def test_a_table_of_costs_that_does_not_fit_is_a_sentence(call, mails, table, words):
    wrong = mails / "wrong.csv"
    wrong.write_bytes(table if isinstance(table, bytes) else table.encode())
    if not (mails / "p.nx").exists():
        call("fit", mails / "train.csv", *FIT, mails / "p.nx")
    for verb in (
        ("fit", mails / "train.csv", *FIT, mails / "no.nx"),
        ("predict", mails / "p.nx", mails / "test.csv", "-o", mails / "no.csv"),
    ):
        done = call(*verb, "--cost", wrong)
        assert (done.status, done.out) == (2, "")
        assert words in done.err.replace('"', "'"), done.err
        assert str(wrong) in done.err, done.err
        assert done.err.count("\n") == 1
    assert not (mails / "no.nx").exists()
    assert not (mails / "no.csv").exists()


def test_costs_and_what_cannot_take_them(call, mails):
    done = call("fit", mails / "train.csv", *FIT, mails / "no.nx", "--plain", "--cost", mails / "costs.csv")
    assert done.status == 2
    assert "leave out" in done.err
    assert call("fit", mails / "train.csv", *FIT, mails / "bare.nx", "--plain").status == 0
    done = call("predict", mails / "bare.nx", mails / "test.csv", "-o", mails / "no.csv", "--cost", mails / "costs.csv")
    assert done.status == 2
    assert "fitted with --plain" in done.err
    done = call("predict", mails / "bare.nx", mails / "test.csv", "-o", mails / "no.csv", "--cost", mails / "none.csv")
    assert done.status == 2
    assert "none.csv" in done.err


def test_named_costs_in_python_are_those_of_the_matrix():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 300)
    X = rng.normal(size=(300, 2)) + y[:, None]
    named = nx.TrustedClassifier(
        cost_matrix={1: {0: 9.0, 1: 0.0, -1: 0.5}, 0: {0: 0.0, 1: 1.0, -1: 0.5}}, reject_label=-1
    )
    plain = nx.TrustedClassifier(cost_matrix=[[0, 1, 0.5], [9, 0, 0.5]])
    for model in (named, plain):
        model.set_params(reject=None, calibrate=None, cv=2).fit(X, y)
    np.testing.assert_array_equal(named.predict_or_reject(X), plain.predict_or_reject(X))
    with pytest.raises(NormexpError, match="some true classes only"):
        named.set_params(cost_matrix={0: {0: 0, 1: 1, -1: 0.5}, 1: {0: 9, 1: 0}}).predict(X)
