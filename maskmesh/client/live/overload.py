"""The policies for frames that come faster than they are tracked."""

from typing import Literal, TypeAlias

from maskmesh.v1 import segmentation_pb2

Overload: TypeAlias = Literal["wait", "skip", "drop_oldest"]
"""What happens to frames that come faster than they are tracked: sending waits; all but the newest are
skipped; or up to 8 are queued, and the oldest are dropped."""

OVERLOAD_POLICIES: dict[Overload, segmentation_pb2.OverloadPolicy] = {
    "wait": segmentation_pb2.OVERLOAD_POLICY_WAIT,
    "skip": segmentation_pb2.OVERLOAD_POLICY_SKIP,
    "drop_oldest": segmentation_pb2.OVERLOAD_POLICY_DROP_OLDEST,
}
