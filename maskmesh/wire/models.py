"""Conversion of model descriptions to messages and back."""

from maskmesh.types import ModelInfo
from maskmesh.v1 import types_pb2


def model_info_to_proto(info: ModelInfo) -> types_pb2.ModelInfo:
    """Convert the description of a model to a message."""
    return types_pb2.ModelInfo(
        model_id=info.model_id,
        name=info.name,
        image_size=info.image_size,
        trained=info.trained,
        parameters=info.parameters,
        device=info.device,
        dtype=info.dtype,
        threads=info.threads,
        warm_up_seconds=info.warm_up_seconds,
    )


def model_info_from_proto(message: types_pb2.ModelInfo) -> ModelInfo:
    """Convert a message to the description of a model."""
    return ModelInfo(
        model_id=message.model_id,
        name=message.name,
        image_size=message.image_size,
        trained=message.trained,
        parameters=message.parameters,
        device=message.device,
        dtype=message.dtype,
        threads=message.threads,
        warm_up_seconds=message.warm_up_seconds,
    )
