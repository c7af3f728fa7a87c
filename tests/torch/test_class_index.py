"""Approximate answers at many classes: the best are found, and the interval of the normaliser holds at its rate."""

import builtins
import math

import numpy as np
import pytest
import torch

import normexp as nx
from normexp.nn.unseen import Sample, Strata, estimated_sum

pytestmark = pytest.mark.filterwarnings("ignore:ClassIndex.top_k. the interval")
K, D = 4_000, 16
usearch = pytest.importorskip("usearch.index", reason="usearch is not installed: normexp[index]")


def clustered(classes=K, features=D, seed=0, **options):
    """A head whose classes lie around 200 directions, with offsets as of word frequencies, and rows near classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(200, features, generator=generator)
    weight = centres.repeat_interleave(classes // 200, 0) + 0.5 * torch.randn(classes, features, generator=generator)
    head = nx.nn.SoftmaxHead(features, classes, **options).requires_grad_(requires_grad=False)
    head.weight.copy_(0.6 * weight)
    if head.bias is not None:
        head.bias.copy_(-0.3 * torch.log(1.0 + torch.arange(float(classes))))
    rows = weight[torch.randint(classes, (40,), generator=generator)]
    return head, rows + 0.3 * torch.randn(40, features, generator=generator)


@pytest.fixture(scope="module")
def problem():
    head, x = clustered()
    return head, x, nx.nn.ClassIndex(head, candidates=64, samples=512, rng=1)


def normaliser(head, x):
    return torch.logsumexp(head(x).double(), -1)


def covered(low, high, truth):
    return ((low <= truth) & (truth <= high)).double().mean().item()


# ---------------------------------------------------------------- the estimate of what was not looked at


def test_the_estimate_is_the_sum_in_the_mean_and_its_error_is_its_spread():
    """Two thousand samples of a known population, with groups of unlike sizes."""
    terms = torch.randn(3, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp()
    norms = torch.rand(500, generator=torch.Generator().manual_seed(2))
    strata, generator = Strata.by_norm(norms, 8), torch.Generator().manual_seed(3)
    sums, errors = [], []
    for _ in range(2000):
        sample = strata.draw(64, generator)
        assert len(sample.classes.unique()) == len(sample.classes)
        found, error = estimated_sum(terms[:, sample.classes], sample)
        sums.append(found)
        errors.append(error)
    sums, errors = torch.stack(sums), torch.stack(errors)
    spread = sums.std(0)
    assert ((sums.mean(0) - terms.sum(1)).abs() <= 4.5 * spread / math.sqrt(2000)).all()
    assert torch.allclose(errors.square().mean(0).sqrt(), spread, rtol=0.1)


def test_groups_by_length_lower_the_error_where_length_tells_the_spread():
    norms = torch.rand(2000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    terms = torch.exp(4.0 * norms + 0.2 * torch.randn(1, 2000, generator=torch.Generator().manual_seed(4)).double())
    means = []
    for parts in (8, 1):
        strata, generator = Strata.by_norm(norms, parts), torch.Generator().manual_seed(5)
        drawn = [strata.draw(128, generator) for _ in range(200)]
        means.append(np.mean([estimated_sum(terms[:, s.classes], s)[1].item() for s in drawn]))
    assert means[0] < 0.5 * means[1]


def test_a_sample_of_everything_has_no_error_and_one_of_several_has_no_spread():
    strata = Strata.by_norm(torch.arange(20.0), 4)
    sample = strata.draw(1000, torch.Generator().manual_seed(1))
    terms = torch.rand(2, 20, dtype=torch.float64)
    found, error = estimated_sum(terms[:, sample.classes], sample)
    assert torch.allclose(found, terms.sum(1), rtol=1e-12)
    assert torch.equal(error, torch.zeros(2, dtype=torch.float64))
    alone = Sample(torch.tensor([3]), torch.tensor([0]), torch.tensor([1]), torch.tensor([5]))
    assert estimated_sum(terms[:, :1], alone)[1].tolist() == [math.inf, math.inf]


# ---------------------------------------------------------------- the index


def test_the_interval_holds_the_normaliser_at_its_rate_and_the_candidates_alone_do_not(problem):
    """Sixty seeds by forty rows at 95 %: rows share a sample, so the rate is known to some two percent."""
    head, x, index = problem
    truth = normaliser(head, x)
    best = head(x).double().amax(-1)
    rates, errors, naive = [], [], []
    for seed in range(60):
        again = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=seed, index=index.index)
        found = again.top_k(x, 1)
        ends = [best - torch.log(end[:, 0].double()) for end in (found.high, found.low)]
        rates.append(covered(ends[0] - 1e-5, ends[1] + 1e-5, truth))
        errors.append((found.log_normaliser - truth) / found.error)
        alone = torch.logsumexp(torch.topk(head(x).double(), 64, -1).values, -1)
        half = ends[1] - found.log_normaliser
        naive.append(covered(alone - half, alone + half, truth))
    assert 0.92 <= np.mean(rates) <= 0.98
    assert abs(torch.stack(errors).median().item()) < 0.3  # no side is favoured
    assert np.mean(naive) < 0.5  # the same width around the normaliser of the candidates fails


def test_calibrated_intervals_hold_where_the_index_misses_classes_and_others_do_not():
    """An index of weights from before a long training; half of the rows calibrate it."""
    head, _ = clustered(features=48)
    before, _ = clustered(features=48)
    before.weight.add_(0.4 * torch.randn(K, 48, generator=torch.Generator().manual_seed(4)))
    old = nx.nn.ClassIndex(before, candidates=32).index
    rows = head.weight[torch.randint(K, (600,), generator=torch.Generator().manual_seed(5))] / 0.6
    rows = 0.7 * rows + 0.3 * torch.randn(600, 48, generator=torch.Generator().manual_seed(6))
    index = nx.nn.ClassIndex(head, candidates=32, samples=256, index=old, rng=1)
    fresh, truth = rows[300:], normaliser(head, rows[300:])

    def rate():
        found = index.top_k(fresh, 1)
        first = head.logits_of(fresh, found.index).squeeze(1).double()
        ends = [first - torch.log(end[:, 0].double()) for end in (found.high, found.low)]
        return covered(ends[0] - 1e-5, ends[1] + 1e-5, truth), found

    as_built, _ = rate()
    assert index.calibrate(rows[:300]) is index
    calibrated, found = rate()
    assert as_built < 0.85
    assert calibrated >= 0.91  # 0.95 less three standard errors of both halves
    assert index.widening > 0.0
    assert (found.error >= (truth - found.log_normaliser).square().mean().sqrt() * 0.5).all()


@pytest.mark.filterwarnings("error")
def test_an_answer_that_does_not_know_what_it_misses_says_so(problem):
    head, x, index = problem
    with pytest.warns(nx.NormexpWarning, match=r"call calibrate\(x\) once"):
        index.top_k(x, 2)
    again = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=1, index=index.index).calibrate(x)
    again.top_k(x, 2)
    with pytest.raises(nx.NormexpError, match="x has 18 rows; 19 or more"):
        again.calibrate(x[:18])


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_the_best_five_are_found(storage):
    head, x = clustered(temperature=0.7, softcap=9.0)
    found = nx.nn.ClassIndex(head, candidates=64, storage=storage).top_k(x, 5)
    exact = head.top_k(x, 5)
    shared = (found.index[:, :, None] == exact.index[:, None, :]).any(-1).double().mean().item()
    assert shared >= 0.98
    same = found.index == exact.index
    assert ((found.log_prob - exact.log_prob).abs()[same] < 0.2).all()
    assert ((found.low <= found.prob) & (found.prob <= found.high)).all()
    assert (found.prob.sum(-1) <= 1.0 + 1e-6).all()


def graph(index):
    """Which classes an index answers with, in order, for 500 vectors: what its links lead to."""
    return index.search(np.random.default_rng(0).normal(size=(500, D + 2)).astype(np.float32), 32).keys


def test_classes_are_linked_one_at_a_time_at_first_and_throughout_where_one_thread_builds(monkeypatch):
    from normexp.nn import class_index

    head, _ = clustered()
    assert np.array_equal(*(graph(nx.nn.ClassIndex(head, candidates=64).index) for _ in range(2)))
    monkeypatch.setattr(class_index, "FIRST", 100)
    added = []
    real = usearch.Index.add

    def counted(self, keys, vectors, **options):
        added.append((len(keys), options["threads"]))
        return real(self, keys, vectors, **options)

    monkeypatch.setattr(usearch.Index, "add", counted)
    nx.nn.ClassIndex(head, candidates=64)
    assert np.array_equal(*(graph(nx.nn.ClassIndex(head, candidates=64, threads=1).index) for _ in range(2)))
    assert added == [(100, 1), (3900, 0), (100, 1), (3900, 1), (100, 1), (3900, 1)]


def test_with_as_many_candidates_as_classes_it_is_exact_and_asks_no_index():
    head, x = clustered(classes=400)
    index = nx.nn.ClassIndex(head, candidates=400)
    assert index.index is None
    found, exact = index.top_k(x, 7), head.top_k(x, 7)
    assert torch.equal(found.index, exact.index)
    assert torch.allclose(found.log_prob, exact.log_prob, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.low, found.high)
    assert torch.equal(found.error, torch.zeros(40, dtype=torch.float64))
    assert torch.allclose(found.log_normaliser, normaliser(head, x), rtol=1e-6)


def test_a_sample_of_all_classes_leaves_no_error(problem):
    head, x, index = problem
    found = nx.nn.ClassIndex(head, candidates=64, samples=8 * K, index=index.index).top_k(x, 3)
    assert torch.equal(found.error, torch.zeros(40, dtype=torch.float64))
    assert torch.allclose(found.log_normaliser, normaliser(head, x), rtol=1e-6)


def test_a_sample_of_candidates_alone_knows_nothing_and_says_so(problem):
    head, x, index = problem
    found = nx.nn.ClassIndex(head, candidates=64, samples=16, index=index.index)
    found._strata = Strata(head.top_k(x[:1], 16).index[0], torch.tensor([0, 16]))
    best = found.top_k(x[:1], 2)
    assert best.error.item() == math.inf
    assert best.low.tolist() == [[0.0, 0.0]]
    assert torch.isfinite(best.high).all()


def test_the_seed_repeats_the_answer_and_shapes_are_those_of_the_features(problem):
    head, x, index = problem
    runs = [nx.nn.ClassIndex(head, candidates=64, samples=512, rng=9, index=index.index) for _ in range(2)]
    first, second = (run.top_k(x, 3) for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(runs[0].top_k(x, 3).error, first.error)
    folded = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=9, index=index.index).top_k(x.reshape(5, 8, D), 3)
    assert folded.prob.shape == folded.low.shape == (5, 8, 3)
    assert folded.error.shape == (5, 8)
    assert torch.equal(folded.log_prob.reshape(40, 3), first.log_prob)
    one, none = index.top_k(x[0], 2), index.top_k(x[:0], 2)
    assert one.index.shape == (2,)
    assert one.error.shape == ()
    assert none.index.shape == (0, 2)
    assert none.error.shape == (0,)


def test_rows_in_blocks_share_one_sample(problem, monkeypatch):
    from normexp.nn import class_index

    head, x, index = problem
    whole = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=9, index=index.index).top_k(x, 3)
    monkeypatch.setattr(class_index, "PICKED", 7 * 64 * D)
    parts = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=9, index=index.index).top_k(x, 3)
    assert torch.equal(parts.index, whole.index)
    assert torch.allclose(parts.error, whole.error, rtol=1e-5)


def test_after_more_training_the_probabilities_are_still_those_of_the_weights():
    head, x = clustered()
    index = nx.nn.ClassIndex(head, candidates=64, samples=2048, rng=3)
    head.weight.mul_(1.2)
    found = index.top_k(x, 3)
    gap = (found.log_normaliser - normaliser(head, x)).abs()
    assert (gap <= 5.0 * found.error + 1e-5).all()
    assert torch.allclose(head(x).gather(1, found.index).double() - found.log_normaliser[:, None],
                          found.log_prob.double(), atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_and_heads_without_offsets_are_indexed_too(dtype):
    torch.manual_seed(1)
    head = nx.nn.SampledHead(D, 1000, 8, bias=dtype == torch.float64, dtype=dtype)
    with torch.no_grad():
        head.weight.mul_(8.0)
    x = torch.randn(6, D).to(dtype)
    found = nx.nn.ClassIndex(head, candidates=100, samples=4000).top_k(x, 4)
    assert found.prob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.no_grad():
        wide = x.double() @ head.weight.double().T
    assert torch.allclose(found.log_normaliser, torch.logsumexp(wide, -1), rtol=1e-5)


def test_a_restored_index_answers_as_it_did(problem, tmp_path):
    head, x, index = problem
    index.index.save(str(tmp_path / "classes.usearch"))
    restored = usearch.Index.restore(str(tmp_path / "classes.usearch"))
    again = nx.nn.ClassIndex(head, candidates=64, samples=512, rng=4, index=restored)
    assert torch.equal(again.top_k(x, 5).index, index.top_k(x, 5).index)


def test_without_usearch_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("usearch"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(nx.NormexpError, match=r"ClassIndex needs packages.*normexp\[index\]"):
        nx.nn.ClassIndex(nx.nn.SoftmaxHead(D, 1000), candidates=10)


def test_an_index_that_finds_too_few_is_not_believed(problem, monkeypatch):
    _, x, index = problem
    small = usearch.Index(ndim=D + 2, metric="cos")
    small.add(np.arange(5), np.ones((5, D + 2), np.float32))
    monkeypatch.setattr(index, "index", small)
    with pytest.raises(nx.NormexpError, match="found 5 of 64 candidates of row 0"):
        index.top_k(x, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda head, x, i: nx.nn.ClassIndex(torch.nn.Linear(2, 2)), "head is a Linear"),
        (lambda head, x, i: nx.nn.ClassIndex(nx.nn.MarginHead(4, 3)), "head is a MarginHead"),
        (lambda head, x, i: nx.nn.ClassIndex(head, candidates=0), "candidates is 0"),
        (lambda head, x, i: nx.nn.ClassIndex(head, samples=3), "samples is 3"),
        (lambda head, x, i: nx.nn.ClassIndex(head, confidence=1.0), "confidence is 1.0"),
        (lambda head, x, i: nx.nn.ClassIndex(head, storage="int4"), "storage is 'int4'"),
        (lambda head, x, i: nx.nn.ClassIndex(head, rng=-1), "rng is -1"),
        (lambda head, x, i: nx.nn.ClassIndex(head, threads=0), "threads is 0"),
        (lambda head, x, i: nx.nn.ClassIndex(nx.nn.SoftmaxHead(D, 999), index=i.index), "index holds 4000 vectors"),
        (lambda head, x, i: nx.nn.ClassIndex(nx.nn.SoftmaxHead(D + 1, K), index=i.index), "needs 4000 of 19"),
        (lambda head, x, i: i.top_k(x, 65), "k is 65 and there are 64 candidates"),
        (lambda head, x, i: i.top_k(x, K + 1), "k is 4001; with 4000 classes"),
        (lambda head, x, i: i.top_k(x[:, :3], 2), "x has shape (40, 3)"),
        (lambda head, x, i: i.top_k(x.long(), 2), "x has dtype int64"),
        (lambda head, x, i: i.top_k(x.index_fill(0, torch.tensor([3]), math.nan), 2), "row 3 of x holds NaN"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_answered_in_a_sentence(problem, call, words):
    with pytest.raises(nx.NormexpError) as caught:
        call(*problem)
    assert words in str(caught.value)
