"""scikit-learn's checks of an estimator as parameters of a test, named alike in every process."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator


def checks_of(*estimators: Any) -> list[Any]:
    """All checks of all estimators."""
    found = []
    for place, estimator in enumerate(estimators):
        for number, (instance, check) in enumerate(estimator_checks_generator(estimator)):
            name = check.func.__name__.removeprefix("check_")
            found.append(pytest.param(instance, check, id=f"{type(instance).__name__}-{place}-{name}-{number}"))
    return found
