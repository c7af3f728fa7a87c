"""Approximate answers of a dense head at millions of classes: an index finds the best, a sample weighs the rest."""

import math
import warnings
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import torch

from normexp.base.checks import check_number
from normexp.base.errors import DtypeError, MissingExtraError, NormexpWarning, RangeError, ShapeError
from normexp.base.finite_samples import fewest_rows, finite_sample_rank
from normexp.nn.checks import check_count, check_features, check_top
from normexp.nn.dense_head import DenseHead
from normexp.nn.unseen import Strata, estimated_sum

STORAGES = ("float32", "bfloat16", "float16", "int8")
SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "i8"}  # usearch's words
BLOCK = 1 << 16  # classes that are prepared for the index at a time
GROUPS = 8  # of classes by the length of their weights
PICKED = 1 << 24  # numbers of candidates' weights in memory at a time: 64 MiB of float32
FIRST = 4096  # classes that are linked one at a time: a graph that many threads begin at once may fall apart
SEARCHED = 2  # entries that the search keeps at hand, for each candidate: with one, single classes are missed


class EstimatedTopK(NamedTuple):
    """The likeliest classes that were found, (..., k) each, and what is known of the normaliser, (...,) each.

    ``prob`` and ``log_prob`` are estimates, ``low`` and ``high`` the ends of the interval of ``prob``;
    ``log_normaliser`` estimates the log of the sum of exponentials of all logits, and ``error`` is its standard error.
    """

    prob: Any
    log_prob: Any
    index: Any
    low: Any
    high: Any
    log_normaliser: Any
    error: Any


class ClassIndex:
    """The k likeliest classes without a pass over all of them, with probabilities that say how sure they are.

    Parameters
    ----------
    head : SoftmaxHead or SampledHead
        Trained; its weights are read, not copied, at each call.
    candidates : int, default 256
        How many classes the index is asked for, for each row; their logits are computed exactly.
    samples : int, default 4096
        About how many of all classes are drawn, once for a call, to weigh those that are no candidates.
    confidence : float in (0, 1), default 0.95
        Of the interval.
    index : usearch.index.Index, optional
        What ``ClassIndex(...).index`` was, saved and restored; None builds it. Its search is widened to twice the
        candidates.
    storage : {"int8", "bfloat16", "float16", "float32"}, default "bfloat16"
        What the built index keeps of a weight.
    connectivity, expansion : int, default 16 and 64
        How many neighbours the built index links, and among how many it looks for them.
    rng : int, torch.Generator or None
        Of the samples; None takes torch's own.
    threads : int, optional
        That build the index; None takes all. Threads link classes in the order in which they come to them, so that
        beyond 4 096 classes two indices of the same weights differ a little; with 1 they are the same.

    Raises
    ------
    MissingExtraError
        If usearch is not installed.
    RangeError, DtypeError, ShapeError
        If an argument does not fit, or the index is of other classes.

    See Also
    --------
    SoftmaxHead : its ``top_k`` is exact, in one pass over the weights.

    Notes
    -----
    The largest products are the smallest angles after two more coordinates: with M the largest length of (w, b),
    ``(w, b, sqrt(M^2 - |w|^2 - b^2))`` against ``(x, 1, 0)`` [1]_; neighbours are found on a graph [2]_. Neither a
    softcap nor a temperature changes the order.

    Candidates C have exact logits, so that ``Z = sum_C exp(z) + R``. R, the sum over the classes that are no
    candidates, is estimated without bias from the sample: classes are drawn from eight parts of equal size by the
    length of their weights, and those that are candidates of a row count 0 for it (``unseen.estimated_sum``). Terms are
    skewed to the right, and the largest may not be in the sample, so with s the standard error, q the normal quantile
    and r what one undrawn class as likely as the last candidate stands for, the interval of R goes from
    ``R exp(-q s / R)`` to ``R + r + q sqrt(s^2 + r^2)``: for a sample that saw nothing, the rule of three [3]_.
    ``error`` is ``sqrt(s^2 + r^2) / Z``. Over seeds the interval holds at its rate, if the index misses no class that
    outweighs the last candidate: where rows are peaked ask for more candidates, where they are flat for more samples.
    The normaliser of the candidates alone would be too small always, and each probability too large.

    What the index itself misses no sample tells: at a million classes it may be one class in twenty of the best.
    ``calibrate`` compares the answers for some rows with the exact ones, and from then on the interval is as much wider
    as it takes to hold for the stated share of such rows, in log Z on both sides [4]_; ``error`` grows by the root of
    the mean square of what was missed. Before that, an answer that is no exact one comes with a warning.

    With as many candidates as classes no index is asked, the answer is exact and the error 0. If weights were trained
    on after the index was built, the logits, and so the probabilities and their interval, are still those of the
    weights of now; it is the candidates that grow stale.

    Cost O(candidates + samples) products a row, beside the search; building is O(K log K) and takes minutes at a
    million classes. Memory of the index is K (D + 2) numbers of ``storage`` and K (2 connectivity + 3) links of 4 to 8
    bytes.

    References
    ----------
    .. [1] Bachrach et al. (2014), "Speeding up the Xbox recommender system using a Euclidean transformation for
       inner-product spaces", RecSys, sec. 3.2.
    .. [2] Malkov and Yashunin (2020), "Efficient and robust approximate nearest neighbor search using hierarchical
       navigable small world graphs", IEEE TPAMI 42(4).
    .. [3] Hanley and Lippman-Hand (1983), "If nothing goes wrong, is everything all right?", JAMA 249(13).
    .. [4] Romano, Patterson and Candes (2019), "Conformalized quantile regression", NeurIPS, eq. 6 to 8.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.SoftmaxHead(4, 10)
    >>> best = nx.nn.ClassIndex(head, candidates=10).top_k(torch.ones(2, 4), 3)
    >>> best.index.shape, best.error.tolist()
    (torch.Size([2, 3]), [0.0, 0.0])
    """

    def __init__(
        self,
        head: Any,
        *,
        candidates: int = 256,
        samples: int = 4096,
        confidence: float = 0.95,
        index: Any = None,
        storage: str = "bfloat16",
        connectivity: int = 16,
        expansion: int = 64,
        rng: Any = None,
        threads: int | None = None,
    ) -> None:
        of = type(self).__name__
        if not isinstance(head, DenseHead):
            raise DtypeError(f"{of}: head is a {type(head).__name__}; a SoftmaxHead or a SampledHead would be right.")
        self.head = head
        self.candidates = min(check_count(candidates, of=of, name="candidates"), head.num_classes)
        self.samples = check_count(samples, of=of, name="samples", low=2 * GROUPS)
        self.confidence = check_number(confidence, of=of, name="confidence", low=0.0, high=1.0)
        if not 0.0 < self.confidence < 1.0:
            raise RangeError(f"{of}: confidence is {confidence!r}; a number between 0 and 1 would be right.")
        if storage not in STORAGES:
            raise RangeError(f"{of}: storage is {storage!r}; one of {', '.join(map(repr, STORAGES))} would be right.")
        self._generator = _generator(rng, of=of)
        workers = 0 if threads is None else check_count(threads, of=of, name="threads")  # usearch's word for all is 0
        self.widening: float | None = None  # of the interval of log Z, on both sides; None before calibrate
        self._missed = 0.0
        lengths = self._lengths()
        self._longest = float(lengths.max())
        self._strata = Strata.by_norm(lengths, GROUPS)
        self.index = index
        if self.candidates == head.num_classes:
            return
        if index is None:
            self.index = self._built(storage, check_count(connectivity, of=of, name="connectivity", low=2),
                                     check_count(expansion, of=of, name="expansion"), workers)  # fmt: skip
        elif len(index) != head.num_classes or index.ndim != head.in_features + 2:
            raise ShapeError(
                f"{of}: index holds {len(index)} vectors of {index.ndim} numbers; this head needs {head.num_classes} "
                f"of {head.in_features + 2}. Build it of this head: ClassIndex(head).index."
            )

        self.index.expansion_search = max(self.index.expansion_search, SEARCHED * self.candidates)

    # ---------------------------------------------------------------- the index

    def _lengths(self) -> Any:
        """Length of each class's weights and offset (K,), float32, a block at a time."""
        with torch.no_grad():
            parts = [self._block(first) for first in range(0, self.head.num_classes, BLOCK)]
        return torch.cat(parts)

    def _block(self, first: int) -> Any:
        return _vectors(*self.head.class_weights(slice(first, first + BLOCK))).norm(dim=1)

    def _built(self, storage: str, connectivity: int, expansion: int, workers: int) -> Any:
        """The index of all classes; usearch is loaded here."""
        try:
            from usearch.index import Index  # noqa: PLC0415  (an extra)
        except ImportError:
            raise MissingExtraError("ClassIndex", "index") from None
        head = self.head
        built = Index(
            ndim=head.in_features + 2, metric="cos", dtype=SHORT[storage], connectivity=connectivity,
            expansion_add=expansion,
        )  # fmt: skip
        with torch.no_grad():
            for first, last in pairwise([0, *range(FIRST, head.num_classes, BLOCK), head.num_classes]):
                vectors = _vectors(*head.class_weights(slice(first, last)))
                short = self._longest**2 - vectors.square().sum(1, keepdim=True)
                whole = torch.cat([vectors, short.clamp(min=0.0).sqrt()], 1).cpu()
                built.add(torch.arange(first, last).numpy(), whole.numpy(), threads=workers if first else 1)
        return built

    def _found(self, rows: Any) -> Any:
        """The candidates of each row (N, C), distinct."""
        head = self.head
        if self.candidates == head.num_classes:
            return torch.arange(head.num_classes, device=rows.device).expand(len(rows), -1)
        if not len(rows):
            return torch.zeros(0, self.candidates, dtype=torch.int64, device=rows.device)
        asked = torch.zeros(len(rows), head.in_features + 2)
        asked[:, : head.in_features], asked[:, head.in_features] = rows, 1.0
        # usearch answers one row in another shape than many: two rows are always asked for
        matches = self.index.search(torch.cat([asked, asked[:1]]).numpy(), self.candidates)
        fewest = int(matches.counts.min())
        if fewest < self.candidates:
            row = int(matches.counts.argmin()) % len(rows)
            raise RangeError(
                f"ClassIndex.top_k: the index found {fewest} of {self.candidates} candidates of row {row}; ask for "
                f"fewer, or build it with a larger expansion."
            )
        return torch.from_numpy(matches.keys[:-1].astype("int64")).to(rows.device)

    # ---------------------------------------------------------------- answers

    def calibrate(self, x: Any) -> Self:
        """Widen the interval by what the index misses for features (N, D) like those to come.

        Takes one pass over the weights for the exact answers. With ``c`` the confidence, N must be ``c / (1 - c)`` or
        more, 19 at 0.95; with a few hundred the rate is known better.
        """
        of = "ClassIndex.calibrate"
        rows = check_features(x, self.head.in_features, of=of).reshape(-1, self.head.in_features)
        if len(rows) < (fewest := fewest_rows(self.confidence)):
            raise RangeError(
                f"{of}: x has {len(rows)} rows; {fewest} or more would be right at a confidence of {self.confidence:g}."
            )
        self.widening, self._missed = 0.0, 0.0
        found = self.top_k(rows, 1)
        with torch.no_grad():
            exact = self.head.top_k(rows, 1)
            best = self.head.logits_of(rows, exact.index).squeeze(1).to(torch.float64)
            first = self.head.logits_of(rows, found.index).squeeze(1).to(torch.float64)
        truth = best - exact.log_prob.squeeze(1).to(torch.float64)
        least, most = (first - torch.log(end.squeeze(1).to(torch.float64)) for end in (found.high, found.low))
        beyond = torch.maximum(least - truth, truth - most).sort().values
        rank = min(len(rows), finite_sample_rank(len(rows), self.confidence))
        self.widening = max(0.0, float(beyond[rank - 1]))
        self._missed = float((truth - found.log_normaliser).square().mean().sqrt())
        return self

    def top_k(self, x: Any, k: int) -> EstimatedTopK:
        """The k likeliest classes of features (..., D) among the candidates, best first; without gradients."""
        of, head = "ClassIndex.top_k", self.head
        count = check_top(k, head.num_classes, of=of)
        if count > self.candidates:
            raise RangeError(
                f"{of}: k is {count} and there are {self.candidates} candidates; ask for as many at least."
            )
        x = check_features(x, head.in_features, of=of)
        rows = x.reshape(-1, head.in_features)
        if not bool(torch.isfinite(rows).all()):
            row = int((~torch.isfinite(rows)).any(1).nonzero()[0])
            raise RangeError(f"{of}: row {row} of x holds NaN or inf; finite features would be right.")
        is_whole = self.candidates == head.num_classes
        if not is_whole and self.widening is None:
            warnings.warn(
                f"{of}: the interval does not know what the index misses; call calibrate(x) once, with rows like "
                "these.",
                NormexpWarning,
                stacklevel=2,
            )
        sample = None if is_whole else self._strata.draw(self.samples, self._generator)
        step = max(1, PICKED // (self.candidates * head.in_features))
        with torch.no_grad():
            parts = [self._of_rows(rows[i : i + step], count, sample) for i in range(0, max(1, len(rows)), step)]
        batch = tuple(x.shape[:-1])
        found = [torch.cat(part) for part in zip(*parts, strict=True)]
        return EstimatedTopK(*(part.reshape(batch + tuple(part.shape[1:])) for part in found))

    def _of_rows(self, rows: Any, k: int, sample: Any) -> EstimatedTopK:
        classes = self._found(rows)
        z = self.head.logits_of(rows, classes).to(torch.float64)
        best, at = torch.topk(z, k, 1)
        top = best[:, :1]
        seen = torch.exp(z - top).sum(1)
        rest, spread, rare = (torch.zeros_like(seen),) * 3 if sample is None else self._rest(rows, classes, z, sample)
        total = seen + rest
        error = torch.hypot(spread, rare)
        quantile = NormalDist().inv_cdf(0.5 + self.confidence / 2.0)
        least = seen + rest * torch.exp(-quantile * torch.where(spread == 0.0, 0.0, spread / rest))
        most = total + rare + quantile * error
        wide = math.exp(self.widening or 0.0)
        least, most = least / wide, most * wide
        log_prob = (best - top) - torch.log(total)[:, None]
        low, high = (torch.exp(best - top) / end[:, None] for end in (most, least))
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return EstimatedTopK(
            log_prob.exp().to(dtype), log_prob.to(dtype), classes.gather(1, at), low.to(dtype), high.to(dtype),
            top.squeeze(1) + torch.log(total), torch.hypot(error / total, torch.full_like(error, self._missed)),
        )  # fmt: skip

    def _rest(self, rows: Any, classes: Any, z: Any, sample: Any) -> tuple[Any, Any, Any]:
        """What the classes that are no candidates add to the sum of exp(z - max), (N,); its standard error; and more.

        The third is what one class that is as likely as the last candidate, and was not drawn, stands for.
        """
        top = z.amax(1, keepdim=True)
        terms = torch.exp(self.head.logits_of(rows, sample.classes).to(torch.float64) - top)
        ordered = classes.sort(1).values
        drawn = sample.classes.expand(len(rows), -1).contiguous()
        place = torch.searchsorted(ordered, drawn).clamp(max=ordered.shape[1] - 1)
        known = ordered.gather(1, place) == drawn
        terms = terms.masked_fill(known, 0.0)
        rest, spread = estimated_sum(terms, sample)
        largest = torch.maximum(torch.exp(z.amin(1) - top.squeeze(1)), terms.amax(1))
        others = (~known).sum(1)
        unseen = self.head.num_classes - self.candidates - others
        return rest, spread, torch.where(unseen == 0, 0.0, largest * unseen / others)

    def __repr__(self) -> str:
        return (
            f"ClassIndex({self.head.num_classes} classes, candidates={self.candidates}, samples={self.samples}, "
            f"confidence={self.confidence:g})"
        )


def _vectors(weight: Any, bias: Any) -> Any:
    """Weights and offset of each class as one vector (n, D + 1), float32."""
    offset = weight.new_zeros(len(weight)) if bias is None else bias
    return torch.cat([weight.float(), offset.float()[:, None]], 1)


def _generator(rng: Any, *, of: str) -> Any:
    """None for torch's own."""
    if rng is None or isinstance(rng, torch.Generator):
        return rng
    return torch.Generator().manual_seed(check_count(rng, of=of, name="rng", low=0))
