"""These tests need torch; without it all but one are left out, and that one says so."""

from importlib.util import find_spec
from pathlib import Path

_torch = find_spec("torch")
HAS_TORCH = bool(_torch and _torch.origin)  # this folder is a "torch" without an origin
collect_ignore = [] if HAS_TORCH else [p.name for p in Path(__file__).parent.glob("*.py") if "needs" not in p.name]
