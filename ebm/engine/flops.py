"""FLOPs of matrix products and convolutions, counted by our own formulas while the operations run.

One multiply-add is two FLOPs, one of complex numbers eight. Products with sparse matrices are counted by the numbers stored. Element-wise work, reductions and data movement are left out by convention (their sizes
are summed in ``elementwise``); every other operation without a formula is listed in ``uncounted``, so a count is never
silently too small.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FlopCounter"]

_aten = torch.ops.aten
_Formula = Callable[..., int]


def _stored(a: Tensor) -> int:
    """How many numbers of a matrix take part in a product: of a sparse one those that are stored."""
    if a.layout == torch.strided:
        return a.numel()
    return a._values().numel() if a.layout == torch.sparse_coo else a.values().numel()


def _mm(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * min(_stored(a) * b.shape[1], a.shape[0] * _stored(b))


def _addmm(_bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return _mm(a, b)


def _bmm(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * min(_stored(a) * b.shape[2], a.shape[1] * _stored(b))


def _baddbmm(_bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return _bmm(a, b)


def _mv(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * _stored(a)


def _addmv(_bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return _mv(a, b)


def _outer(_bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return 2 * a.numel() * b.numel()


def _convolution(
    x: Tensor, weight: Tensor, _bias: Any, _stride: Any, _pad: Any, _dil: Any, transposed: bool, *_: Any, out: Tensor
) -> int:
    """Each output number (input number, if transposed) takes part in as many products as a filter has weights."""
    sites = x if transposed else out
    return 2 * sites.shape[0] * math.prod(sites.shape[2:]) * weight.numel()


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any, out: Any) -> int:
    transposed, mask = rest[4], rest[7]
    sites = x if transposed else grad
    once = 2 * sites.shape[0] * math.prod(sites.shape[2:]) * weight.numel()
    return once * (int(mask[0]) + int(mask[1]))


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    batch = math.prod(q.shape[:-2])
    return 2 * batch * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _bag(table: Tensor, indices: Tensor, *rest: Any, **_: Any) -> int:
    """A sum of rows is a reduction; a weighted one is a product with a sparse matrix."""
    weights = rest[4] if len(rest) > 4 else None
    return 0 if weights is None else 2 * indices.numel() * table.shape[1]


def _bag_backward(grad: Tensor, indices: Tensor, *rest: Any, **_: Any) -> int:
    return 0 if rest[8] is None else 2 * indices.numel() * grad.shape[1]


def _bag_weights_backward(grad: Tensor, _table: Tensor, indices: Tensor, *_: Any, **__: Any) -> int:
    return 2 * indices.numel() * grad.shape[1]


_FORMULAS: dict[Any, _Formula] = {
    _aten._sparse_mm: _mm,
    _aten._sparse_addmm: _addmm,
    _aten._embedding_bag: _bag,
    _aten._embedding_bag_forward_only: _bag,
    _aten._embedding_bag_backward: _bag_backward,
    _aten._embedding_bag_per_sample_weights_backward: _bag_weights_backward,
    _aten.mm: _mm,
    _aten.addmm: _addmm,
    _aten.addmm_: _addmm,
    _aten.bmm: _bmm,
    _aten.baddbmm: _baddbmm,
    _aten.mv: _mv,
    _aten.addmv: _addmv,
    _aten.dot: _mv,
    _aten.vdot: _mv,
    _aten.addr: _outer,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention: _attention,
    _aten._scaled_dot_product_efficient_attention: _attention,
    _aten._scaled_dot_product_cudnn_attention: _attention,
}
_WITH_OUTPUT: dict[Any, _Formula] = {
    _aten.convolution: _convolution,
    _aten._convolution: _convolution,
    _aten.convolution_backward: _convolution_backward,
}
_FREE = frozenset(
    [
        "sum",
        "mean",
        "amax",
        "amin",
        "max",
        "min",
        "argmax",
        "argmin",
        "any",
        "all",
        "prod",
        "logsumexp",
        "_softmax",
        "_log_softmax",
        "softmax",
        "var",
        "std",
        "var_mean",
        "norm",
        "linalg_vector_norm",
        "cumsum",
        "argsort",
        "sort",
        "topk",
        "cat",
        "stack",
        "clone",
        "copy_",
        "_to_copy",
        "index_select",
        "gather",
        "scatter",
        "index",
        "index_put",
        "index_copy",
        "slice_scatter",
        "select_scatter",
        "select_backward",
        "slice_backward",
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal_",
        "uniform_",
        "bernoulli_",
        "native_dropout",
        "native_dropout_backward",
        "_unsafe_view",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "zeros",
        "ones",
        "empty",
        "full",
        "arange",
        "eye",
        "scalar_tensor",
        "fill_",
        "zero_",
        "native_layer_norm",
        "native_layer_norm_backward",
        "native_group_norm",
        "native_group_norm_backward",
        "native_batch_norm",
        "native_batch_norm_backward",
        "_softmax_backward_data",
        "_log_softmax_backward_data",
        "constant_pad_nd",
        "avg_pool2d",
        "avg_pool2d_backward",
        "max_pool2d_with_indices",
        "max_pool2d_with_indices_backward",
        "mean_dim",
        "adaptive_avg_pool2d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool2d_backward",
        "embedding",
        "repeat",
        "roll",
        "flip",
        "masked_fill",
        "where",
        "one_hot",
        "_local_scalar_dense",
        "detach",
        "lift_fresh",
        "nonzero",
        "masked_select",
        "tril",
        "triu",
        "is_nonzero",
        "equal",
        "scatter_",
        "diag_embed",
        "unbind_copy",
        "new_empty_strided",
        "empty_strided",
        "resolve_conj",
        "threshold_backward",
        "tanh_backward",
        "sigmoid_backward",
        "gelu_backward",
        "silu_backward",
        "softplus_backward",
        "upsample_nearest2d",
        "upsample_nearest2d_backward",
        "_reshape_copy",
        "cumprod",
        "trace",
        "median",
        "mish_backward",
        "transpose_",
        "unsafe_split",
        "masked_fill_",
        "floor_divide",
        "index_put_",
    ]
)


def _has_own_kernel(func: Any) -> bool:
    """Whether an operation runs as one kernel: taking it apart would change the bits of what is being priced."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CPU")


def _real_products(args: Any) -> int:
    """Multiply-adds of real numbers in one of the numbers at hand: a complex one is four."""
    return 4 if any(isinstance(part, Tensor) and part.is_complex() for part in args[:3]) else 1


class FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of what runs inside it; the results of the operations are untouched.

    Attributes:
        flops: of products and convolutions so far, forward and backward.
        elementwise: output numbers of point-wise operations so far.
        uncounted: operations without a formula that are neither point-wise, reductions nor data movement.

    Example:
        >>> import torch
        >>> from ebm.engine.flops import FlopCounter
        >>> with FlopCounter() as counter:
        ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> counter.flops
        48

    Source: the usual convention, 2 m k n for an (m, k) by (k, n) product.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.elementwise = 0
        self.uncounted: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would load its compiler, in more than a second, at the first operation: a count is never compiled."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet not in _FORMULAS and packet not in _WITH_OUTPUT and not _has_own_kernel(func):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        self._count(func, packet, args, kwargs, result)
        return result

    def _count(self, func: Any, packet: Any, args: Any, kwargs: Any, result: Any) -> None:
        if packet in _FORMULAS:
            self.flops += _FORMULAS[packet](*args, **kwargs) * _real_products(args)
        elif packet in _WITH_OUTPUT:
            self.flops += _WITH_OUTPUT[packet](*args, out=result) * _real_products(args)
        elif torch.Tag.pointwise in func.tags:
            self.elementwise += result.numel() if isinstance(result, Tensor) else 0
        elif not (func.is_view or func._schema.name.removeprefix("aten::") in _FREE):
            self.uncounted[str(packet)] += 1
