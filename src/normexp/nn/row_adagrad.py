"""An optimiser for very many classes: one number of state for each row, and steps that low precision cannot swallow."""

from typing import Any

import torch

from normexp.base.errors import DtypeError, ShapeError
from normexp.nn.checks import check_positive

MANTISSA_BITS = {torch.bfloat16: 8, torch.float16: 11}  # the leading one included
LEAST_EXPONENT = {torch.bfloat16: -125, torch.float16: -13}  # of the smallest normal number, as torch.frexp counts


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad with one accumulator for each row; sparse gradients move only the rows that they hold.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        Weights (K, D) of a head or an embedding, and any others; float16 and bfloat16 too.
    lr : float, default 0.1
        The length of a step, before it is divided by the root of the accumulator.
    eps : float, default 1e-10
        Added to that root.

    Raises
    ------
    RangeError, DtypeError
        If an option or a parameter's dtype does not fit.

    Notes
    -----
    With g the gradient of a row, a <- a + mean(g^2) and w <- w - lr g / (sqrt(a) + eps): Adagrad [1]_ with the
    accumulator averaged over the row, as recommenders keep it [2]_. State is 4 bytes a row, 1 / D of Adagrad's and
    1 / 2D of Adam's. A step costs what the rows of the gradient cost, none of the others; a row drawn twice moves once,
    by the sum.

    A bfloat16 weight has 8 bits, so a step of less than 2^-9 of it would be rounded away, every time. Here a weight of
    16 bits is rounded up or down at random, with the odds that make it right on average [3]_: small steps arrive after
    some time, without a float32 copy. Everything but the stored weight is float32 (float64 for float64); the draws are
    torch's own, so ``torch.manual_seed`` repeats a run. ``load_state_dict`` keeps the accumulators in float32, which
    torch's would round to the weights' dtype.

    References
    ----------
    .. [1] Duchi, Hazan and Singer (2011), "Adaptive subgradient methods", JMLR 12, fig. 1.
    .. [2] Mudigere et al. (2022), "Software-hardware co-design for fast and scalable training of deep learning
       recommendation models", ISCA, sec. 4.1.4.
    .. [3] Gupta et al. (2015), "Deep learning with limited numerical precision", ICML, sec. 3.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.SampledHead(8, 100_000, 64, sparse=True, dtype=torch.bfloat16)
    >>> optimiser = nx.nn.RowAdagrad(head.parameters(), lr=0.05)
    >>> head.loss(torch.randn(4, 8), torch.tensor([0, 17, 99_999, 3])).backward()
    >>> optimiser.step()
    >>> optimiser.state[head.weight]["sum"].shape
    torch.Size([100000])
    """

    def __init__(self, params: Any, lr: float = 0.1, eps: float = 1e-10) -> None:
        of = type(self).__name__
        options = {"lr": check_positive(lr, of=of, name="lr"), "eps": check_positive(eps, of=of, name="eps")}
        super().__init__(params, options)

    def add_param_group(self, param_group: Any) -> None:
        """Take more parameters, with options of their own."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if not parameter.dtype.is_floating_point:
                raise DtypeError(
                    f"RowAdagrad: a parameter has dtype {str(parameter.dtype).removeprefix('torch.')}; float16, "
                    f"bfloat16, float32 or float64 would be right."
                )

    def load_state_dict(self, state_dict: Any) -> None:
        """Take the state of another run, accumulators in the dtype that they were saved in."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        mine = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, mine, strict=True):
            if number in state_dict["state"]:
                saved = state_dict["state"][number]["sum"]
                self.state[parameter]["sum"] = saved.to(parameter.device, copy=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every row that has a gradient; ``closure``, if given, is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    self._move(parameter, group["lr"], group["eps"])
        return loss

    def _move(self, parameter: Any, lr: float, eps: float) -> None:
        wide = torch.promote_types(parameter.dtype, torch.float32)
        count = parameter.shape[0] if parameter.ndim else 1
        if "sum" not in self.state[parameter]:
            self.state[parameter]["sum"] = torch.zeros(count, dtype=wide, device=parameter.device)
        total, weights = self.state[parameter]["sum"], parameter.view(count, -1)
        if parameter.grad.is_sparse:
            rows, grad = _summed(parameter.grad, wide)
        else:
            rows, grad = slice(None), parameter.grad.to(wide).reshape(count, -1)
        sums = total[rows] + grad.square().mean(1)
        moved = weights[rows].to(wide) - grad * (lr / (sums.sqrt() + eps))[:, None]
        if parameter.dtype in MANTISSA_BITS:
            moved = rounded_at_random(moved, parameter.dtype)
        total[rows] = sums
        weights[rows] = moved


def _summed(grad: Any, wide: Any) -> tuple[Any, Any]:
    """The rows that a sparse gradient holds, once each, and the sum of what it says of each, in the wider dtype."""
    if grad.sparse_dim() != 1:
        raise ShapeError(
            f"RowAdagrad: a gradient has {grad.sparse_dim()} sparse dimensions; one, of whole rows, would be right."
        )
    rows, place = torch.unique(grad._indices()[0], return_inverse=True)  # noqa: SLF001  (indices() sums in 16 bits)
    values = grad._values().to(wide)  # noqa: SLF001  (as above)
    values = values.reshape(len(place), values.shape[1:].numel())  # a gradient may hold no rows
    return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, place, values)


def rounded_at_random(x: Any, dtype: Any) -> Any:
    """Numbers x of float32, rounded to float16 or bfloat16: each to one of its two neighbours, in the mean to x.

    In units of the last place x is n + f; it becomes n + 1 with probability f, to 2^-13. NaN and inf stay; what would
    pass the largest number stops there.
    """
    _, exponent = torch.frexp(x)
    unit = torch.ldexp(torch.ones_like(x), exponent.clamp(min=LEAST_EXPONENT[dtype]) - MANTISSA_BITS[dtype])
    places = x / unit
    drawn = torch.rand(x.shape, dtype=x.dtype, device=x.device)
    low = places.floor()
    most = torch.finfo(dtype).max
    found = ((low + (drawn < places - low)) * unit).clamp(-most, most)
    return torch.where(torch.isfinite(x), found, x).to(dtype)
