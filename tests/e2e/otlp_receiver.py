"""An OTLP gRPC receiver in a separate process.  It prints its port, then a line for each span.

python otlp_receiver.py
"""

import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request: Any, context: Any) -> Any:
        for resource_spans in request.resource_spans:
            attributes = resource_spans.resource.attributes
            service = next(a.value.string_value for a in attributes if a.key == "service.name")
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    print(service, span.trace_id.hex(), span.name, flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()


def main() -> None:
    # One thread, so that the lines of two exports do not mix.
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()  # returns when the parent process closes the pipe or ends
    server.stop(None)


if __name__ == "__main__":
    main()
