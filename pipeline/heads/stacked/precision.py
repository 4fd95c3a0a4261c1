"""How the matrix products of training are computed: in single precision, or from factors rounded to bf16.

With bf16 every factor is rounded to 8 bits and the products are summed in single precision; parameters, optimizer,
losses and validation stay as they are. It pays where the processor multiplies tiles (AMX), and only there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pipeline.errors import HeadError
from pipeline.heads.config import known

PRODUCTS = ("fp32", "bf16")


def require_products(products: str, device: torch.device) -> None:
    """Raises HeadError where there are no such products, or none on this device that are faster."""
    known("products", products, PRODUCTS)
    if products == "bf16" and (device.type != "cpu" or not torch.cpu._is_amx_tile_supported()):
        where = "this processor has none" if device.type == "cpu" else f"the device is {device.type}"
        raise HeadError(f"products in bf16 need a processor with AMX, and {where}; use --products fp32")


@contextlib.contextmanager
def matrix_products(products: str) -> Iterator[None]:
    """Compute the products within the block so, and those after it as before."""
    if products != "bf16":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
