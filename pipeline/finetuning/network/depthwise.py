"""Gradients of a depthwise convolution in bf16, made of operations that a CPU has fast kernels for.

Where the stride is 2 or the kernel larger than 3x3, PyTorch takes up to a hundred times as long for a gradient as for
the forward pass. Here the gradient of x is a forward convolution (of the output's gradient, with zeros between its
pixels where the stride skips some, with the kernel turned by 180 degrees), and that of a large kernel is put together
from those of 3x3 pieces of it. All of it is in channels_last, the format of the other convolutions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

_FAST_SIDE = 3
"""Side of the largest kernel whose gradient PyTorch computes fast."""


class DepthwiseConvolution(torch.autograd.Function):
    """y = x * weight + bias per channel, with x, y and the gradient of x in bf16.

    Takes x (n, c, h, w), weight (c, 1, k, k), bias (c,), one stride and one padding (below k) for both directions.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        """(n, c, h, w) to (n, c, h', w'), bf16."""
        x, kernel = _channels_last(x.bfloat16()), weight.bfloat16()
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(x, kernel, bias.bfloat16(), stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The gradients of x (bf16), weight and bias (float32)."""
        x, kernel = ctx.saved_tensors
        gradient = _channels_last(gradient)
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_x = _input_gradient(gradient, kernel, x.shape, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_kernel = _kernel_gradient(gradient, x, kernel, ctx.stride, ctx.padding).float()
        return of_x, of_kernel, gradient.sum((0, 2, 3), dtype=torch.float32), None, None


def is_plain_depthwise(conv: torch.nn.Conv2d) -> bool:
    """Whether `DepthwiseConvolution` computes what this convolution does."""
    if not conv.groups == conv.in_channels == conv.out_channels or isinstance(conv.padding, str):
        return False
    square = all(pair[0] == pair[1] for pair in (conv.kernel_size, conv.stride, conv.padding, conv.dilation))
    return square and conv.dilation[0] == 1 and conv.padding[0] < conv.kernel_size[0]


def _channels_last(array: Tensor) -> Tensor:
    return array.contiguous(memory_format=torch.channels_last)


def _input_gradient(gradient: Tensor, kernel: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    side = kernel.shape[-1]
    if stride > 1:
        rows, columns = (length + 2 * padding - side + 1 for length in shape[2:])
        spread = gradient.new_zeros(shape[0], rows, columns, shape[1]).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    return conv2d(gradient, kernel.flip(2, 3), None, 1, side - 1 - padding, 1, len(kernel))


def _kernel_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """Entry (i, j): sum over photos and pixels (Y, X) of gradient[Y, X] * x[Y stride + i, X stride + j], x padded."""
    side = kernel.shape[-1]
    if side <= _FAST_SIDE:
        return _native_kernel_gradient(gradient, x, kernel, stride, padding)
    x = pad(x, (padding,) * 4) if padding else x
    height, width = ((length - 1) * stride + _FAST_SIDE for length in gradient.shape[2:])
    starts = sorted({min(start, side - _FAST_SIDE) for start in range(0, side, _FAST_SIDE)})
    of_kernel = torch.empty_like(kernel)
    for i in starts:
        for j in starts:
            piece = (..., slice(i, i + _FAST_SIDE), slice(j, j + _FAST_SIDE))
            seen = _channels_last(x[..., i : i + height, j : j + width])
            of_kernel[piece] = _native_kernel_gradient(gradient, seen, kernel[piece].contiguous(), stride, 0)
    return of_kernel


def _native_kernel_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    of_kernel: Tensor = torch.ops.aten.convolution_backward(
        *(gradient, x, kernel, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(kernel)),
        [False, True, False],
    )[1]
    return of_kernel
