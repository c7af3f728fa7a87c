"""What every refusal is: a NormexpError that is also the right builtin, in a sentence."""

import pytest

import normexp as nx


def refusal_of(function, arguments, options, builtin):
    """The message with which the function of the functional level refuses the arguments."""
    return _message(builtin, getattr(nx, function), *arguments, **options)


def refused(builtin, words, function, *arguments, **options):
    """The function refuses the arguments in a sentence that holds the words."""
    message = _message(builtin, function, *arguments, **options)
    assert words in message, message


def _message(builtin, function, *arguments, **options):
    with pytest.raises(builtin) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert isinstance(caught.value, nx.NormexpError), f"{type(caught.value).__name__}: {message}"
    return message
