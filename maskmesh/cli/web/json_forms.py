"""Results in the JSON form that the page reads."""

from typing import Any

from maskmesh.client.live.live_result import LiveResult
from maskmesh.masks import RleMask
from maskmesh.records.budget import WindowRecord
from maskmesh.status import MeshStatus
from maskmesh.types import FrameMasks, ModelInfo, ObjectMask


def model_json(model: ModelInfo) -> dict[str, Any]:
    """The model of a session; ``concepts`` is whether it finds objects by words."""
    return {
        "name": model.name,
        "model_id": model.model_id,
        "device": model.device,
        "dtype": model.dtype,
        "trained": model.trained,
        "concepts": model.name.startswith("sam3"),
    }


def frame_json(frame: FrameMasks) -> dict[str, Any]:
    """The masks of a frame, the durations of its stages, its trace."""
    return {
        "frame_index": frame.frame_index,
        "width": frame.width,
        "height": frame.height,
        "conditioning": frame.conditioning,
        "objects": [object_json(mask) for mask in frame.objects.values()],
        "stage_ms": {stage: round(seconds * 1000, 3) for stage, seconds in frame.stage_seconds.items()},
        "trace_id": frame.trace_id,
    }


def object_json(mask: ObjectMask) -> dict[str, Any]:
    """One mask as COCO's compressed RLE."""
    assert isinstance(mask.mask, RleMask), "the page requests COCO RLE"
    return {
        "obj_id": mask.obj_id,
        "counts": mask.mask.counts.decode("ascii"),
        "predicted_iou": round(mask.predicted_iou, 3),
        "visible": mask.object_score_logit > 0,
        "concept_id": mask.concept_id,
    }


def live_json(result: LiveResult) -> dict[str, Any]:
    """A result of a live stream."""
    content = frame_json(result.frame) | {
        "type": "result",
        "sequence": result.sequence,
        "skipped": len(result.skipped),
        "gated": result.gated,
    }
    if result.window is not None:
        content["window"] = window_json(result.window)
    return content


def window_json(window: WindowRecord) -> dict[str, Any]:
    """The timing of a window in milliseconds."""
    return {
        "total_ms": round(window.total * 1000, 2),
        "latency_ms": round(window.latency * 1000, 2),
        "budget_ms": None if window.budget is None else round(window.budget * 1000, 2),
        "status": window.status,
    }


def mesh_json(mesh: MeshStatus) -> dict[str, Any]:
    """What the page shows of each replica."""
    services = []
    for name, service in zip(mesh.names(), mesh.services, strict=True):
        content: dict[str, Any] = {"name": name, "kind": service.kind, "error": service.error}
        content["queues"] = dict(service.queues)
        if (usage := service.usage) is not None:
            content["resident_bytes"] = usage.resident_bytes
            content["cpu_seconds"] = usage.cpu_seconds
        if (cache := service.cache) is not None:
            content["cache"] = {
                "hits": cache.hits,
                "misses": cache.misses,
                "used_bytes": cache.used_bytes,
                "budget_bytes": cache.budget_bytes,
            }
        if service.sessions is not None:
            content["sessions"] = service.sessions.open
        services.append(content)
    return {"services": services, "trace_url": mesh.trace_url}
