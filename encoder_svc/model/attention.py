"""Scaled dot-product attention by whichever kernel is at hand."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.nn.amx import kernel


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query: [B, N, heads, D]; key, value: [B, M, heads, D]; returns [B, N, heads, D]."""
    on_cpu = query.device.type == "cpu" and query.dtype is torch.bfloat16 and not torch.is_grad_enabled()
    if on_cpu and kernel.can_attend(key.shape[-1], value.shape[-1]):
        attended = query.new_empty(*query.shape[:-1], value.shape[-1])
        kernel.attend(query, key, value, attended, threads=torch.get_num_threads())
        return attended
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
