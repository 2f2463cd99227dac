"""Names of spans and of their attributes; they are declared here and nowhere else."""

from typing import Final, TypeAlias

AttributeValue: TypeAlias = str | int | float | bool
Attributes: TypeAlias = dict[str, AttributeValue]

# Stages of the model and of the work around it.
DECODE_IMAGE: Final = "decode_image"
MOTION_GATE: Final = "motion_gate"
PREPROCESS: Final = "preprocess"
IMAGE_ENCODER: Final = "image_encoder"
FETCH_EMBEDDING: Final = "fetch_embedding"
TRACKER_NECK: Final = "tracker_neck"
DETECTOR_NECK: Final = "detector_neck"
TEXT_ENCODER: Final = "text_encoder"
EXEMPLAR_ENCODER: Final = "exemplar_encoder"
DETECTOR_ENCODER: Final = "detector_encoder"
DETECTOR_DECODER: Final = "detector_decoder"
MASK_HEAD: Final = "mask_head"
ASSOCIATE: Final = "associate"
MEMORY_ATTENTION: Final = "memory_attention"
PROMPT_ENCODER: Final = "prompt_encoder"
MASK_DECODER: Final = "mask_decoder"
MEMORY_ENCODER: Final = "memory_encoder"
POSTPROCESS: Final = "postprocess"
ARCHIVE: Final = "archive"
POINT_QUERY: Final = "point_query"
POINT_INITIALIZE: Final = "point_initialize"
POINT_REFINE: Final = "point_refine"
OPTICAL_FLOW: Final = "optical_flow"
MOTION_TOKENIZER: Final = "motion_tokenizer"
ERASE_FLOW: Final = "erase_flow"
ERASE_PROPAGATE: Final = "erase_propagate"
ERASE_FILL: Final = "erase_fill"
ERASE_COMPOSE: Final = "erase_compose"
ENCODE_IMAGE: Final = "encode_image"

# Work of a handler on a call, outside of the stages.
PREPARE: Final = "prepare"  # find the session, check the request
COMMIT: Final = "commit"  # change the session, write it to the store
RESPOND: Final = "respond"  # make the response
CACHE_LOOKUP: Final = "cache_lookup"
SEND_EMBEDDING: Final = "send_embedding"

# Waits and transfers.  The names of their spans have a second word, what is waited for or the direction:
# ``queue device``, ``transfer request``.
QUEUE: Final = "queue"
TRANSFER: Final = "transfer"

# What a result waits for until it is known which objects of concepts it shows: later results.
HOTSTART: Final = "hotstart"

# Stages that only models of SAM 3 have.
SAM3_STAGES: Final = (
    TRACKER_NECK,
    DETECTOR_NECK,
    TEXT_ENCODER,
    EXEMPLAR_ENCODER,
    DETECTOR_ENCODER,
    DETECTOR_DECODER,
    MASK_HEAD,
    ASSOCIATE,
)

# Stages that only TAPIR and the motion tokenizer have.
TAPIR_STAGES: Final = (POINT_QUERY, POINT_INITIALIZE, POINT_REFINE, MOTION_TOKENIZER)

# Stages of erasing, in the gateway.
ERASE_STAGES: Final = (ERASE_FLOW, ERASE_PROPAGATE, ERASE_FILL, ERASE_COMPOSE, ENCODE_IMAGE)

STAGES: Final = (
    DECODE_IMAGE,
    MOTION_GATE,
    PREPROCESS,
    IMAGE_ENCODER,
    FETCH_EMBEDDING,
    *SAM3_STAGES,
    MEMORY_ATTENTION,
    PROMPT_ENCODER,
    MASK_DECODER,
    MEMORY_ENCODER,
    POSTPROCESS,
    ARCHIVE,
    *TAPIR_STAGES,
    OPTICAL_FLOW,
    *ERASE_STAGES,
)
HANDLING: Final = (PREPARE, COMMIT, RESPOND, CACHE_LOOKUP, SEND_EMBEDDING)

_NAMED: Final = frozenset((*STAGES, *HANDLING, QUEUE, TRANSFER))


def base_name(span_name: str) -> str:
    """The name of a span without what is waited for and without the direction: ``queue``, ``transfer``."""
    return span_name.partition(" ")[0]


def is_named(span_name: str) -> bool:
    """Whether a span is a stage, work of a handler, a wait or a transfer, which attribution counts."""
    return base_name(span_name) in _NAMED


# Spans that group others; the attribution does not count them.
FRAME: Final = "frame"  # one frame of a propagation, from its slot in the window to its delivery
TRACK: Final = "track"  # the frame's request to the tracker, up to its result
MEMORIZE: Final = "memorize"  # a frame's memory, where it delayed no other frame
WARM_UP: Final = "warm_up"

# Attributes of maskmesh.
SESSION_ID: Final = "maskmesh.session.id"
FRAME_INDEX: Final = "maskmesh.frame.index"
FRAME_KIND: Final = "maskmesh.frame.kind"  # "conditioning" or "tracked"
FRAME_COUNT: Final = "maskmesh.frame.count"  # frames that a call has delivered
FIRST_FRAME: Final = "maskmesh.frame.first"  # true for the first frames of a propagation
TENANT: Final = "maskmesh.tenant"
PROPAGATION_ID: Final = "maskmesh.propagation.id"  # of a frame, and of the call that propagates
SLOWEST_TRACES: Final = "maskmesh.slowest.trace_ids"  # of the slowest frames of a call, the slowest first
OBJECT_COUNT: Final = "maskmesh.object.count"
OBJECT_ID: Final = "maskmesh.object.id"
CONCEPT_ID: Final = "maskmesh.concept.id"
CONCEPT_SCORE: Final = "maskmesh.concept.score"
REASON: Final = "maskmesh.reason"
CACHE_OUTCOME: Final = "maskmesh.cache.outcome"  # "hit", "miss", "joined", "shared_hit" or "reference"
REFERENCE: Final = "reference"  # the gateway had a reference to the embedding, and called no encoder
BATCH_SIZE: Final = "maskmesh.batch.size"
DEVICE: Final = "maskmesh.device"
DTYPE: Final = "maskmesh.dtype"
BYTES: Final = "maskmesh.bytes"
SHARED_MEMORY: Final = "maskmesh.shared_memory"  # true for an embedding that was read from shared memory
COLD: Final = "maskmesh.cold"  # true for the first run of a stage in its process
WAITS_FOR: Final = "maskmesh.waits_for"  # what a queue span waits for
GATED: Final = "maskmesh.gated"  # true for a frame that the motion gate answered with earlier masks
ABANDONED: Final = "maskmesh.abandoned"  # true for a frame that was not delivered
DIRECTION: Final = "maskmesh.direction"  # of a transfer: "request" or "response"

# Events on the span of a frame in the tracker: what was decided about the objects of concepts.
OBJECT_FOUND: Final = "object_found"
OBJECT_GONE: Final = "object_gone"
OBJECT_HELD_BACK: Final = "object_held_back"
OBJECT_UNMATCHED: Final = "object_unmatched"
OBJECT_RECONDITIONED: Final = "object_reconditioned"

# Attributes of OpenTelemetry's RPC conventions (v1.38).  The name of the status is in one constant, because
# the conventions are about to rename it.
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

CONDITIONING: Final = "conditioning"
TRACKED: Final = "tracked"
