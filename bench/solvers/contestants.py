"""Who fits: each contestant says what it can do, and fits once with a budget of steps or a tolerance.

A contestant without a certificate is run with 1, 2, 4, ... steps, each time from the start, as a benchmark of
optimisers does (benchopt); the time to a suboptimality is that of the first run that reaches it. normexp is run with
a ladder of tolerances. Each is also run at its default settings.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fit:
    """Coefficients (S, D), intercepts (S,), and what was said on the way."""

    coef: Any
    intercept: Any
    told: str
    converged: bool = False
    passes: int = 0


LADDER = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)


class Normexp:
    """Ours."""

    name = "normexp"

    def can(self, problem, X, n_classes):  # noqa: ARG002  (all contestants are asked alike)
        return True

    def budgets(self):
        return LADDER

    def fit(self, problem, X, y, budget):
        import normexp as nx

        penalty = {0.0: "l2", 1.0: "l1"}.get(problem.l1_ratio, "elasticnet") if problem.penalised else None
        ratio = problem.l1_ratio if penalty == "elasticnet" else None
        options = {} if budget is None else {"tol": budget}
        model = nx.SoftmaxClassifier(C=problem.C, penalty=penalty, l1_ratio=ratio, **options)
        told = _telling(lambda: model.fit(X, y))
        return Fit(model.coef_, model.intercept_, told, passes=model.solution_.n_passes)


class ScikitLearn:
    """One solver of LogisticRegression."""

    def __init__(self, solver):
        self.solver = solver
        self.name = f"scikit-learn {solver}"

    def can(self, problem, X, n_classes):
        if self.solver == "liblinear":
            return n_classes == 2 and problem.penalised and problem.l1_ratio in (0.0, 1.0)
        if problem.l1_ratio > 0:
            return self.solver == "saga"
        unknowns = X.shape[1] * n_classes
        return not (self.solver == "newton-cholesky" and 8 * unknowns**2 > 8e9)  # its Hessian would take more than 8 GB

    def budgets(self):
        return tuple(2**k for k in range(25))

    def fit(self, problem, X, y, budget):
        from sklearn.linear_model import LogisticRegression

        options = {} if budget is None else {"tol": 1e-14, "max_iter": budget}
        model = LogisticRegression(
            C=problem.C if problem.penalised else np.inf, l1_ratio=problem.l1_ratio, solver=self.solver, random_state=0,
            **options,
        )  # fmt: skip
        told = _telling(lambda: model.fit(X, y))
        done = budget is not None and int(np.max(model.n_iter_)) < budget
        return Fit(model.coef_, model.intercept_, told, converged=done)


class Statsmodels:
    """MNLogit by Newton's method, without a penalty."""

    name = "statsmodels"

    def can(self, problem, X, n_classes):
        return not problem.penalised and not hasattr(X, "indptr") and X.shape[1] * n_classes < 5000

    def budgets(self):
        return tuple(2**k for k in range(12))

    def fit(self, problem, X, y, budget):  # noqa: ARG002  (all contestants are asked alike)
        import statsmodels.api as sm

        design = np.column_stack([np.ones(len(y)), X])
        found = []
        steps = 35 if budget is None else budget

        def run():
            found.append(sm.MNLogit(y, design).fit(method="newton", maxiter=steps, disp=0))

        told = _telling(run)
        against_first = found[0].params.T  # (K - 1, D + 1)
        both = np.vstack([np.zeros(design.shape[1]), against_first])
        return Fit(
            both[:, 1:], both[:, 0], told, converged=bool(found[0].mle_retvals["converged"]) and budget is not None
        )


class SnapML:
    """snapml, for two classes: with more it fits each against the rest, which is another objective."""

    name = "snapml"

    def can(self, problem, X, n_classes):  # noqa: ARG002  (all contestants are asked alike)
        try:
            import snapml  # noqa: F401  (asked whether it is there)
        except ImportError:
            return False
        return n_classes == 2 and problem.penalised and problem.l1_ratio in (0.0, 1.0)

    def budgets(self):
        return tuple(2**k for k in range(20))

    def fit(self, problem, X, y, budget):
        import snapml

        options = {} if budget is None else {"tol": 1e-14, "max_iter": budget}
        model = snapml.LogisticRegression(
            regularizer=1.0 / problem.C, fit_intercept=True, penalty="l1" if problem.l1_ratio else "l2", n_jobs=2,
            random_state=0, **options,
        )  # fmt: skip
        told = _telling(lambda: model.fit(X, y))
        return Fit(np.reshape(model.coef_, (1, -1)), np.reshape(model.intercept_, 1), told)


CONTESTANTS = {
    one.name: one
    for one in (
        Normexp(),
        *(ScikitLearn(s) for s in ("lbfgs", "newton-cholesky", "newton-cg", "sag", "saga", "liblinear")),
        Statsmodels(),
        SnapML(),
    )
}


def _telling(work) -> str:
    """Run work; return the names of the warnings it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return " ".join(sorted({item.category.__name__ for item in caught}))
