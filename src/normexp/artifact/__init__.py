"""Save and load models, without pickle: loading can never run code. Weights and graphs for other programs."""

from normexp.artifact.onnx_graph import save_onnx as save_onnx
from normexp.artifact.store import load as load
from normexp.artifact.store import save as save
from normexp.artifact.tensors import load_weights as load_weights
from normexp.artifact.tensors import save_weights as save_weights

__all__ = ["load", "load_weights", "save", "save_onnx", "save_weights"]
