"""What every refusal of the functional level is: a NormexpError that is also the right builtin, in a sentence."""

import pytest

import normexp as nx


def refusal_of(function, arguments, options, builtin):
    """The message with which the function refuses the arguments."""
    with pytest.raises(builtin) as caught:
        getattr(nx, function)(*arguments, **options)
    message = str(caught.value)
    assert isinstance(caught.value, nx.NormexpError), f"{type(caught.value).__name__}: {message}"
    return message
