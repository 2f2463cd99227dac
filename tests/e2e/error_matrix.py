"""Every way to call wrongly, and what comes of it: the cases of a test, and the table in the docs.

python -m tests.e2e.error_matrix docs/errors.md
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from maskmesh import MaskmeshError
from maskmesh.v1 import error_reason_pb2
from tests.e2e.error_case import Case
from tests.e2e.image_cases import IMAGE_CASES
from tests.e2e.limits import LIMITS
from tests.e2e.live_cases import LIVE_CASES
from tests.e2e.session_cases import SESSION_CASES

CASES: Sequence[Case] = (*SESSION_CASES, *IMAGE_CASES, *LIVE_CASES)


def reason(error: type[MaskmeshError]) -> str:
    """Its name in ErrorInfo."""
    return error_reason_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


HEADER = """# What goes wrong, and what comes of it

Written by `python -m tests.e2e.error_matrix docs/errors.md` from the cases that the tests run through a real
mesh. Every error carries its reason in a `google.rpc.ErrorInfo` of the domain `maskmesh`; INVALID_ARGUMENT
names the field in a `google.rpc.BadRequest` besides. After each of these calls the session is as it was.

Deadlines and cancellations have gRPC's own codes, DEADLINE_EXCEEDED and CANCELLED; the call may have been
carried out all the same, and a repetition with its idempotency key says so. A message over the limit
(64 MiB) is refused by gRPC itself with RESOURCE_EXHAUSTED and no reason. Limits of the server (sessions,
objects, frames, bytes of an upload, work that waits) give RESOURCE_EXHAUSTED with a `google.rpc.RetryInfo`.

In a `SegmentStream`, what is wrong with one frame, prompt or removal comes back as a `StreamRejected`, and
the stream goes on; the rows that begin with these words are such.
"""

LIMITS_HEADER = """## Limits

What each service takes is a setting of it. A call beyond it does nothing, and the session goes on as it was.
Disk is another matter: beyond its budget the oldest states go, tracking goes on, and what would need them is
refused.

| setting | call | code | reason | `resource` |
|---|---|---|---|---|"""


def table() -> str:
    """The docs page."""
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
