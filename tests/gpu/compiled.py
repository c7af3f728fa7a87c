"""Compile every kernel to a cubin for an H100, without a GPU. Run as a program by ``test_kernels.py``."""

import inspect
import sys

if __name__ == "__main__":
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from normexp.kernels.gpu import cross_entropy, linear, softmax, topk

    SIZES = {"rows", "classes", "depth", "cols", "spans", "k"}
    F64 = {"heat_of_row", "numbers", "rests", "totals", "counts", "trues", "weight", "pulls", "losses", "factors"}
    F64 |= {"takens", "slopes"}
    F32 = {"tops", "scale", "bias"}
    TILE = {"ROWS": 16, "COLS": 16, "DEPTH": 16, "PRECISION": "ieee", "WIDEN": False, "K": 8}
    HEAD = {"BIAS": True, "HEAT": True, "CAP": True}

    def pointer(name, logits, kernel):
        if name in {"target", "index"}:
            return "*i64"
        if name in F32 or (name == "out" and kernel == "add_product"):
            return "*fp32"
        return "*fp64" if name in F64 else logits

    def compile_one(kernel, logits, **constants):
        parameters = inspect.signature(kernel.fn).parameters
        wanted = {n: {**TILE, **constants}[n] for n, p in parameters.items() if "constexpr" in str(p.annotation)}
        signature = {}
        for name in parameters:
            if name in wanted:
                signature[name] = "constexpr"
            elif name in SIZES:
                signature[name] = "i32"
            elif name.endswith(("_stride", "_row", "_col", "_class")) or name == "span":
                signature[name] = pointer(name, logits, kernel.__name__) if name == "heat_of_row" else "i64"
            else:
                signature[name] = pointer(name, logits, kernel.__name__)
        source = ASTSource(fn=kernel, signature=signature, constexprs=wanted)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
        assert len(made.asm["cubin"]) > 0

    for whole in (True, False):
        compile_one(softmax.softmax_rows, "*bf16", LOG=True, HEAT=True, WHOLE=whole)
        compile_one(softmax.softmax_rows, "*fp16", LOG=False, HEAT=False, WHOLE=whole)
        compile_one(softmax.logsumexp_rows, "*fp32", WHOLE=whole)
        compile_one(cross_entropy.cross_entropy_rows, "*fp32", LOSS=True, GRAD=True, SMOOTH=True, WHOLE=whole)
        compile_one(topk.top_k_rows, "*fp32", WHOLE=whole)
    compile_one(linear.linear_states, "*bf16", SMOOTH=True, **HEAD)
    compile_one(linear.linear_gradient, "*fp16", **HEAD)
    compile_one(linear.add_product, "*fp32")
    compile_one(linear.linear_losses, "*fp32", GRAD=True, SMOOTH=True)
    sys.stdout.write("all kernels compiled\n")
