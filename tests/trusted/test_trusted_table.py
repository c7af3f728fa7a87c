"""Tables through the trusted path: the columns of predictions, reasons, promises in the facts and in the report."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier

import normexp as nx
from normexp import explain, metrics
from normexp.base.errors import InputError, NormexpWarning
from normexp.report import as_json, render_html, summarise
from normexp.tables import open_source
from normexp.trusted import TableClassifier

WORDS = {"spam": ["win", "cash", "now", "prize"], "ham": ["see", "you", "at", "lunch"], "bill": ["pay", "due", "cash"]}


def write_clouds(path, n_rows=600, seed=0, gap=2.0, names=("a|b", "b", "c")):
    """Three clouds with names that need care."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_rows)
    X = rng.normal(size=(n_rows, 3)) + gap * np.eye(3)[y]
    kind = np.array(names)[y]
    pl.DataFrame({"left": X[:, 0], "up": X[:, 1], "far": X[:, 2], "kind": kind.tolist()}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusted")
    train, test = write_clouds(folder / "train.csv"), write_clouds(folder / "test.csv", seed=1)
    model = TableClassifier(trusted=nx.TrustedClassifier(cv="auto", coverage=0.95)).fit(
        open_source(train, target="kind")
    )
    return model, test


def test_predictions_tell_what_the_parts_tell(fitted):
    model, test = fitted
    source = open_source(test, target="kind")
    frame = pl.concat([block.to_frame() for block in model.predict_batches(source, batch_rows=100)])
    assert frame.columns[-4:] == ["decision", "set", "unknown_score", "reason"]
    rows = model.encoder_.transform(source.read(model.schema_, with_target=False).features)
    inner = model.estimator_
    np.testing.assert_array_equal(frame["probability"], inner.predict_proba(rows).max(axis=1))
    assert frame["decision"].to_list() == [str(label) for label in inner.predict_or_reject(rows)]
    assert 0 < (frame["decision"] == "unknown").sum() < 60
    np.testing.assert_array_equal(frame["unknown_score"], inner.unknown_score(rows))
    inside = inner.predict_set(rows)
    order = np.argsort(-inner.predict_proba(rows), axis=1)
    shown = ["|".join(["a\\|b", "b", "c"][k] for k in one if held[k]) for one, held in zip(order, inside, strict=True)]
    assert frame["set"].to_list() == shown


def test_the_reason_is_the_largest_contribution(fitted):
    model, test = fitted
    block = open_source(test).read(model.schema_, with_target=False)
    told = next(model.predict_batches(open_source(test), batch_rows=10_000)).trust.reason
    why = nx.explain.reasons(model, block)  # of the bare scores: the same classes here, since a temperature keeps them
    at = np.abs(why.contributions).argmax(axis=1)
    for row in range(len(told)):
        name, amount = told[row].rsplit(" ", 1)
        assert name == str(why.names[at[row]])
        assert float(amount) == pytest.approx(why.contributions[row, at[row]], rel=6e-3)


def test_of_a_text_the_reason_is_a_word(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.choice(list(WORDS), 300)
    texts = [" ".join(rng.choice(WORDS[name], 5)) for name in labels]
    pl.DataFrame({"label": labels, "text": texts, "size": rng.random(300)}).write_csv(tmp_path / "t.csv")
    source = open_source(tmp_path / "t.csv", target="label", text="text")
    with pytest.warns(NormexpWarning, match="copies"):
        model = TableClassifier(trusted=nx.TrustedClassifier(cv="auto")).fit(source)
    predicted = next(model.predict_batches(open_source(tmp_path / "t.csv")))
    good = 0
    for label, text, reason in zip(predicted.label, texts, predicted.trust.reason, strict=True):
        word, amount = reason.rsplit(" ", 1)
        assert word in text.split()
        good += float(amount) > 0 and word in WORDS[str(label)]
    assert good > 290


def test_a_base_without_coefficients_has_no_reason_but_all_else(tmp_path, fitted):
    _, test = fitted
    forest = RandomForestClassifier(10, random_state=0, n_jobs=1)
    model = TableClassifier(estimator=forest, trusted=nx.TrustedClassifier(calibrate="temperature"))
    model.fit(open_source(test, target="kind"))
    told = next(model.predict_batches(open_source(test)))
    assert set(told.trust.reason) == {""}
    assert set(told.trust.decision) <= {"a|b", "b", "c", "unknown"}


def test_the_facts_tell_the_promises_and_the_report_what_came_of_them(fitted):
    model, test = fitted
    titles = [title for title, _ in model.training_.promises]
    assert titles == ["calibration", "sets", "unknown"]
    assert "600 held-out rows of 5 folds" in model.training_.promises[0][1]
    labelled = model.labelled(open_source(test, target="kind"))
    summary = summarise(labelled, model.training_, source="test.csv", date="2026-01-31")
    trust = summary.trust
    assert trust.coverage == metrics.coverage(labelled.target, labelled.trust.sets)
    assert trust.coverage_low <= 0.95 <= trust.coverage_high
    assert trust.loss_before == pytest.approx(metrics.log_loss(labelled.target, labelled.trust.base_logits))
    assert trust.loss_after == pytest.approx(summary.score("log_loss").value)
    assert trust.accuracy_answered >= trust.accuracy
    assert {v.name for v in summary.verdicts} >= {"recalibration", "sets", "unknown"}
    assert np.array(summary.matrix).sum() == summary.n_rows
    assert np.trace(np.array(summary.matrix)) == round(summary.score("accuracy").value * summary.n_rows)
    plain = as_json(summary)
    assert plain["trust"]["coverage_asked"] == 0.95
    assert plain["date"] == "2026-01-31"
    page = render_html(summary)
    for words in ("What was promised, and what was kept", "2026-01-31", "true class, down"):
        assert words in page


def test_broken_promises_are_called_so(fitted):
    """Rows from elsewhere: sets that miss, too many unknown, a calibration that does harm."""
    model, test = fitted
    labelled = model.labelled(open_source(test, target="kind"))
    far = dataclasses.replace(
        labelled,
        target=(labelled.target + (np.arange(600) % 3 == 0)) % 3,
        trust=dataclasses.replace(
            labelled.trust, unknown=np.arange(600) % 3 == 0, base_logits=0.1 * labelled.trust.base_logits
        ),
    )
    level = {v.name: v.level for v in summarise(far, source="far").verdicts}
    assert (level["sets"], level["unknown"], level["recalibration"]) == ("red", "amber", "amber")
    kept = {v.name: v.level for v in summarise(labelled, source="near").verdicts}
    assert (kept["sets"], kept["unknown"], kept["recalibration"]) == ("green", "green", "green")


def test_moved_decisions_are_judged_by_what_they_pay(fitted, tmp_path):
    _, test = fitted
    cost = 1 - np.eye(3)
    cost[0] *= 30
    options = nx.TrustedClassifier(calibrate="temperature", cv=3, cost_matrix=cost)
    model = TableClassifier(trusted=options).fit(open_source(test, target="kind"))
    labelled = model.labelled(open_source(test, target="kind"))
    summary = summarise(labelled, source="x")
    verdict = next(v for v in summary.verdicts if v.name == "decisions")
    assert verdict.level == "green"
    assert summary.trust.cost_decided < summary.trust.cost_probable
    assert "least expected cost" in render_html(summary)


def test_the_report_of_a_trusted_classifier_on_arrays_has_the_section(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    X = rng.normal(size=(400, 3)) + 2 * np.eye(3)[y]
    model = nx.TrustedClassifier(calibrate="temperature", cv=3, objective="balanced").fit(X[:200], y[:200])
    model.report(X[200:], y[200:], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What was promised, and what was kept" in page
    assert "as if all classes came equally often" in page


def test_contributions_sum_to_the_log_odds_of_the_base():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    X = rng.normal(size=(400, 3)) + 2 * np.eye(3)[y]
    model = nx.TrustedClassifier(calibrate="vector", cv=3).fit(X, y)
    prob, base = model.predict_proba(X), model.base_logits(X)
    order = np.argsort(-prob, axis=1)
    row = np.arange(400)
    gap = base[row, order[:, 0]] - base[row, order[:, 1]]
    np.testing.assert_allclose(model.explain(X).sum(axis=1), gap, atol=1e-12)


@pytest.mark.parametrize("calibrate", ["temperature", "ensemble_temperature"])
def test_reasons_and_changes_are_those_of_decisions_whose_shares_were_matched(calibrate):
    """The weights of the base prefer rare classes, and undoing them decides otherwise near the boundary."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, 1500, p=[0.8, 0.15, 0.05])
    X = rng.normal(size=(1500, 4)) + 1.5 * np.eye(3, 4)[y]
    model = nx.TrustedClassifier(nx.SoftmaxClassifier(class_weight="balanced"), calibrate=calibrate, cv=3).fit(X, y)
    assert model.moved_
    decided, base = model.predict(X), model.estimator_.predict(X)
    assert (decided != base).mean() > 0.1
    np.testing.assert_array_equal(
        (model.base_logits(X) + model.class_shift_).argmax(axis=1), model.logits(X).argmax(axis=1)
    )
    row = np.arange(len(X))
    first, second = np.argsort(-model.logits(X), axis=1)[:, :2].T
    why = explain.reasons(model, X)
    shifted = model.base_logits(X) + model.class_shift_
    pair = shifted[row, first] - shifted[row, second]
    np.testing.assert_allclose(why.gap, pair, atol=1e-12)
    assert (why.gap > 0.0).all()  # of the base alone, the sum of a reason would speak against the decision
    np.testing.assert_allclose(why.baseline_gap + why.contributions.sum(axis=1), why.gap, atol=1e-12)
    found = explain.contrast(model, X[:40])
    near, beyond = X[:40] + 0.999 * (found.x - X[:40]), X[:40] + 1.001 * (found.x - X[:40])
    np.testing.assert_array_equal(model.predict(near), decided[:40])
    assert (model.predict(beyond) != decided[:40]).all()
    assert (model.estimator_.predict(near) != decided[:40]).any()  # what the base alone would have told


def test_a_calibration_that_is_more_than_a_temperature_has_no_shift():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = rng.normal(size=(300, 3)) + 2 * np.eye(3)[y]
    assert nx.TrustedClassifier(calibrate="vector", cv=3).fit(X, y).class_shift_ is None
    assert nx.TrustedClassifier(calibrate=None, cv=3).fit(X, y).class_shift_.tolist() == [0.0, 0.0, 0.0]


def test_what_cannot_be_promised_is_said_with_the_way_out(tmp_path):
    (tmp_path / "few.csv").write_text("x,y\n" + "1,a\n2,a\n3,a\n4,a\n5,b\n")
    source = open_source(tmp_path / "few.csv", target="y")
    with pytest.raises(InputError, match=r"few.csv: only rows of the class 'a' can .* --plain"):
        TableClassifier(trusted=nx.TrustedClassifier(), min_class_rows=1).fit(source)
    TableClassifier(min_class_rows=1).fit(source)


def test_more_ranks_than_classes_and_numbers_as_words_are_mentioned(fitted, tmp_path):
    model, test = fitted
    with pytest.warns(NormexpWarning, match="99 classes are to be ranked, and the model knows 3"):
        frame = next(model.predict_batches(open_source(test), top_k=99)).to_frame()
    assert "top_3" in frame.columns
    assert "top_4" not in frame.columns
    with pytest.warns(NormexpWarning, match="the text column 'left' holds numbers; each will be read as words"):
        open_source(test, target="kind", text="left").infer()


def test_an_older_model_file_still_loads(tmp_path):
    """Files from before name TrainingFacts in its former place and know neither promises nor a trusted part."""
    write_clouds(tmp_path / "t.csv", 100)
    model = TableClassifier().fit(open_source(tmp_path / "t.csv", target="kind"))
    del model.trusted
    object.__delattr__(model.training_, "promises")
    import io
    import zipfile

    from normexp.artifact import container, payload, store

    packed = payload.pack(model)
    renamed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(renamed, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename == "schema.json":
                assert b"normexp.report.labelled" in content
                content = content.replace(b"normexp.report.labelled", b"normexp.trusted.labelled")
            new.writestr(item, content)
    with (tmp_path / "old.nx").open("wb") as stream:
        container.write_container(
            stream, model_class="TableClassifier", payload=renamed.getvalue(), versions=store._versions()
        )
    again = nx.load(tmp_path / "old.nx")
    assert again.training_.promises == ()
    told = next(again.predict_batches(open_source(tmp_path / "t.csv", target="kind")))
    assert told.trust is None
    assert again.labelled(open_source(tmp_path / "t.csv", target="kind")).trust is None
