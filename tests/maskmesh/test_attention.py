"""Attention head by head compared with torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.nn.attention import MIN_TOKENS_FOR_HEADS, _attend_by_head


def inputs(batch: int, heads: int, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)

    def made(count: int) -> Tensor:
        return torch.randn(batch, heads, count, 32, generator=random).to(torch.bfloat16)

    return made(queries), made(keys), made(keys)


@pytest.mark.parametrize(("queries", "keys"), [(MIN_TOKENS_FOR_HEADS, 640), (1300, MIN_TOKENS_FOR_HEADS)])
def test_equals_torch(queries: int, keys: int) -> None:
    """Queries in several blocks, the last of them smaller."""
    query, key, value = inputs(2, 3, queries, keys)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    with torch.inference_mode():
        actual = _attend_by_head(query, key, value)
    assert actual.dtype is torch.bfloat16
    fused = F.scaled_dot_product_attention(query, key, value)
    error, error_of_torch = ((x.float() - expected).abs().max() for x in (actual, fused))
    # Logits are rounded to bfloat16 here.  The error of a whole SAM 3 trunk is the same with both.
    assert error <= 5 * error_of_torch


def test_result_does_not_depend_on_the_batch() -> None:
    query, key, value = inputs(3, 2, MIN_TOKENS_FOR_HEADS, MIN_TOKENS_FOR_HEADS)
    with torch.inference_mode():
        together = _attend_by_head(query, key, value)
        alone = _attend_by_head(query[1:2], key[1:2], value[1:2])
    assert torch.equal(together[1], alone[0])
