"""What imports torch is collected only where torch is installed."""

from importlib.util import find_spec

_torch = find_spec("torch")
# tests/torch is a folder "torch" on the path too: it has no origin
_needs_torch = [
    "src/normexp/nn",
    "src/normexp/backends/tensors",
    "tests/torch_cases.py",
    "tests/torch_heads.py",
    "tests/torch_quick.py",
    "tests/torch_sharded_worker.py",
]
collect_ignore = [] if _torch and _torch.origin else _needs_torch
