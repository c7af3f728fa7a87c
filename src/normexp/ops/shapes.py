"""What is left of a shape when the classes are reduced."""


def batch_shape(shape: tuple[int, ...], axes: tuple[int, ...], *, keepdims: bool = False) -> tuple[int, ...]:
    """The shape without ``axes``, or with 1 in their place."""
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)
