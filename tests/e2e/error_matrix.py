"""All invalid calls and their errors: the cases of a test, and the source of the table in the docs.

python -m tests.e2e.error_matrix docs/errors.md
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from maskmesh import MaskmeshError
from maskmesh.v1 import error_reason_pb2
from tests.e2e.concept_cases import CONCEPT_CASES
from tests.e2e.erase_cases import ERASE_CASES
from tests.e2e.error_case import Case
from tests.e2e.image_cases import IMAGE_CASES
from tests.e2e.limits import LIMITS
from tests.e2e.live_cases import LIVE_CASES
from tests.e2e.point_cases import POINT_CASES
from tests.e2e.session_cases import SESSION_CASES

CASES: Sequence[Case] = (
    *SESSION_CASES,
    *IMAGE_CASES,
    *CONCEPT_CASES,
    *LIVE_CASES,
    *POINT_CASES,
    *ERASE_CASES,
)


def reason(error: type[MaskmeshError]) -> str:
    """The reason of an error class as its name in ErrorInfo."""
    return error_reason_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


HEADER = """# Errors

Written by `python -m tests.e2e.error_matrix docs/errors.md` from the cases that the tests run in a real
mesh. Every error carries its reason in a `google.rpc.ErrorInfo` of the domain `maskmesh`; INVALID_ARGUMENT
also names the field in a `google.rpc.BadRequest`. None of these calls changes the session.

Deadlines and cancellations have the gRPC codes DEADLINE_EXCEEDED and CANCELLED. The server may have
executed such a call; a retry with the same idempotency key then returns its result. gRPC itself refuses a
message over the limit (256 MiB) with RESOURCE_EXHAUSTED and no reason. Server limits (sessions, objects,
frames, bytes of an upload, queued work) give RESOURCE_EXHAUSTED with a `google.rpc.RetryInfo`.

In a `SegmentStream`, the server returns an error of one frame, prompt, concept or removal as a
`StreamRejected`, and the stream continues. The rows that begin with "a frame", "a prompt", "a concept" or
"a removal" are such errors.
"""

LIMITS_HEADER = """## Limits

The limits are settings of each service. A call over a limit does not change the session, which stays
usable. The disk budget is different: over the budget the tracker evicts the oldest states and continues to
track, and it refuses calls that need an evicted state.

| setting | call | code | reason | `resource` |
|---|---|---|---|---|"""


def table() -> str:
    """The content of docs/errors.md."""
    lines = [HEADER]
    for rpc in dict.fromkeys(case.rpc for case in CASES):
        lines += [f"## {rpc}", "", "| call with | code | reason | field |", "|---|---|---|---|"]
        lines += [
            f"| {c.what} | {c.error.code.name} | {reason(c.error)} | {f'`{c.field}`' if c.field else ''} |"
            for c in CASES
            if c.rpc == rpc
        ]
        lines.append("")
    lines.append(LIMITS_HEADER)
    lines += [
        f"| `{limit.setting}` | {limit.rpc} | {limit.error.code.name} | {reason(limit.error)} "
        f"| {limit.resource} |"
        for limit in LIMITS
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table())
