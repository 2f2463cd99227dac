"""The AMX attention kernel compared with torch in float32, on the same bfloat16 inputs."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn import amx
from maskmesh.nn.attention import attend_in_blocks
from tracker_svc.model.rope import axial_rotation, rotate_grids

FOUND = amx.enable(Path(torch.__file__).parent / "lib")

pytestmark = pytest.mark.skipif(not amx.can_attend(32, 16), reason=f"attention is {FOUND}")

# Weights and results are rounded to 8 bits; the errors of many weights cancel.
TOLERANCE = 0.02


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    out = torch.full((*query.shape[:-1], value.shape[-1]), float("nan"), dtype=torch.bfloat16)
    amx.attend(query, key, value, out, threads=2)
    return out.float()


def expected(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (x.float().transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


@pytest.mark.parametrize(
    ("batch", "queries", "keys", "heads", "width", "value_width"),
    [
        (1, 1, 1, 1, 32, 16),
        (3, 49, 196, 2, 96, 96),  # a window with query pooling
        (2, 16, 17, 3, 64, 48),
        (1, 255, 256, 1, 256, 64),
        (2, 257, 511, 2, 32, 112),  # more than one block of queries and one chunk of keys
        (1, 600, 1030, 1, 256, 256),
    ],
)
def test_attention_matches_torch(
    batch: int, queries: int, keys: int, heads: int, width: int, value_width: int
) -> None:
    query = random(batch, queries, heads, width, seed=1, scale=3)
    key, value = random(batch, keys, heads, width, seed=2), random(batch, keys, heads, value_width, seed=3)
    torch.testing.assert_close(
        attend(query, key, value), expected(query, key, value), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_strided_inputs_are_supported() -> None:
    joined = random(2, 100, 3 * 64, seed=4)
    query, key, value = (x.unflatten(-1, (2, 32)) for x in joined.chunk(3, dim=-1))
    torch.testing.assert_close(
        attend(query, key, value), expected(query, key, value), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_softmax_is_stable_for_large_scores() -> None:
    """The largest score may be in a late chunk of keys and far above all others."""
    query, key, value = random(1, 40, 1, 32, scale=30), random(1, 900, 1, 32, seed=1), random(1, 900, 1, 16)
    key[:, 800:] *= 20
    torch.testing.assert_close(
        attend(query, key, value), expected(query, key, value), atol=TOLERANCE, rtol=TOLERANCE
    )


def test_result_does_not_depend_on_the_batch() -> None:
    query, key, value = (random(3, 300, 2, 64, seed=s) for s in range(3))
    together = attend(query, key, value)
    alone = torch.cat([attend(query[i : i + 1], key[i : i + 1], value[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)
    assert torch.equal(together[:, :17], attend(query[:, :17], key, value))


@pytest.mark.parametrize(("grids", "num_pointer_tokens"), [(1, 0), (3, 8), (2, 13)])
@torch.inference_mode()
def test_packed_memory_attention_matches_torch(grids: int, num_pointer_tokens: int) -> None:
    side, width, memory_width = 8, 128, 32
    count = grids * side * side + num_pointer_tokens
    memory, with_positions = random(memory_width, count, seed=1), random(memory_width, count, seed=2)
    query = random(300, width, seed=3, scale=3)
    torch.manual_seed(0)
    layer = nn.Linear(memory_width, width).bfloat16()
    rotation = axial_rotation((side, side), width, torch.device("cpu"), torch.bfloat16, channels_first=True)
    packed = torch.empty(amx.packed_size(count, width, memory_width), dtype=torch.bfloat16)
    amx.pack_memories(
        with_positions,
        memory,
        weight=layer.weight,
        bias=layer.bias,
        cosines=rotation.cos,
        sines=rotation.sin,
        num_pointer_tokens=num_pointer_tokens,
        packed=packed,
        threads=2,
    )
    out = torch.full((300, memory_width), float("nan"), dtype=torch.bfloat16)
    for rows in (slice(0, 130), slice(130, 300)):
        amx.attend_packed(query[rows], packed, out[rows], keys=count, threads=2)
    exact = axial_rotation((side, side), width, torch.device("cpu"), torch.float32, channels_first=True)
    keys = rotate_grids(layer.float(), with_positions.float(), exact, num_pointer_tokens=num_pointer_tokens)
    torch.testing.assert_close(
        out.float(),
        attend_in_blocks(query.float(), keys, memory.T.float(), lambda: None),
        atol=2 * TOLERANCE,  # rotations, too, are rounded to 8 bits
        rtol=TOLERANCE,
    )


def test_unsupported_shapes_are_refused() -> None:
    query, key = random(1, 4, 1, 32), random(1, 4, 1, 48)
    with pytest.raises(ValueError, match="key has the shape"):
        amx.attend(query, key, query, query, threads=1)
    with pytest.raises(ValueError, match="no kernel for keys of width 48"):
        amx.attend(key, key, key, key, threads=1)
    with pytest.raises(ValueError, match="not contiguous"):
        amx.attend(query.transpose(1, 3).contiguous().transpose(1, 3), query, query, query, threads=1)
    with pytest.raises(ValueError, match="packed has the shape"):
        amx.attend_packed(query[0, :, 0], query[0, 0, 0], query[0, :, 0], keys=4, threads=1)
    assert not amx.can_attend(512, 16)
    assert not amx.can_pack_memories(256, 64, 49)
