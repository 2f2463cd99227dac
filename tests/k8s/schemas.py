"""JSON schemas of the custom resources, with the fields that maskmesh uses; other fields are errors."""

from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_DURATION = {"type": "string", "pattern": "^[0-9]+h$"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


_SCALED_OBJECT = _object(
    {
        "scaleTargetRef": _object({"name": _TEXT}, {"kind": {"enum": ["StatefulSet"]}}),
        "minReplicaCount": _COUNT,
        "maxReplicaCount": _COUNT,
        "triggers": _list(
            _object(
                {
                    "type": {"const": "prometheus"},
                    "name": _TEXT,
                    "metadata": _object(
                        {"serverAddress": _TEXT, "query": _TEXT, "threshold": _TEXT},
                        {"ignoreNullValues": _TEXT},
                    ),
                }
            )
        ),
    },
    {
        "pollingInterval": _COUNT,
        "cooldownPeriod": _COUNT,
        "fallback": _object({"failureThreshold": _COUNT, "replicas": _COUNT}),
        "advanced": _object({"horizontalPodAutoscalerConfig": _object({"behavior": {"type": "object"}})}),
    },
)
_ISSUER_REF = _object({"name": _TEXT, "kind": {"enum": ["Issuer", "ClusterIssuer"]}})
_CERTIFICATE = _object(
    {"secretName": _TEXT, "issuerRef": _ISSUER_REF, "duration": _DURATION},
    {
        "isCA": {"type": "boolean"},
        "commonName": _TEXT,
        "dnsNames": _list(_TEXT),
        "usages": _list({"enum": ["server auth", "client auth"]}),
        "renewBefore": _DURATION,
        "privateKey": _object(
            {"algorithm": {"enum": ["ECDSA", "RSA"]}, "size": _COUNT},
            {"rotationPolicy": {"enum": ["Always", "Never"]}},
        ),
    },
)
_ISSUER = {
    "oneOf": [
        _object({"selfSigned": {"type": "object", "maxProperties": 0}}),
        _object({"ca": _object({"secretName": _TEXT})}),
    ]
}
_INGRESS_GATEWAY = _object(
    {
        "gatewayClassName": _TEXT,
        "listeners": _list(
            _object(
                {
                    "name": _TEXT,
                    "protocol": {"const": "HTTPS"},
                    "port": _COUNT,
                    "hostname": _TEXT,
                    "tls": _object(
                        {"mode": {"const": "Terminate"}, "certificateRefs": _list(_object({"name": _TEXT}))}
                    ),
                }
            )
        ),
    }
)
_GRPC_ROUTE = _object(
    {
        "parentRefs": _list(_object({"name": _TEXT})),
        "hostnames": _list(_TEXT),
        "rules": _list(
            _object(
                {
                    "matches": _list(_object({"method": _object({"service": _TEXT})})),
                    "backendRefs": _list(_object({"name": _TEXT, "port": _COUNT})),
                }
            )
        ),
    }
)
_REFERENCE = _object({"group": {"const": ""}, "kind": {"enum": ["Service", "Secret"]}, "name": _TEXT})
_BACKEND_TLS = _object(
    {
        "targetRefs": _list(_REFERENCE),
        "validation": _object({"hostname": _TEXT, "caCertificateRefs": _list(_REFERENCE)}),
    }
)

_BACKEND_TRAFFIC = _object(
    {
        "targetRefs": _list(_object({"group": _TEXT, "kind": _TEXT, "name": _TEXT})),
        "timeout": _object({"http": _object({"requestTimeout": _TEXT})}),
        "loadBalancer": _object(
            {
                "type": {"const": "ConsistentHash"},
                "consistentHash": _object({"type": {"const": "Header"}, "header": _object({"name": _TEXT})}),
            }
        ),
    }
)
_SECURITY = _object(
    {
        "targetRefs": _list(_object({"group": _TEXT, "kind": _TEXT, "name": _TEXT})),
        "cors": _object(
            {
                "allowOrigins": _list(_TEXT),
                "allowMethods": _list(_TEXT),
                "allowHeaders": _list(_TEXT),
                "exposeHeaders": _list(_TEXT),
                "maxAge": _DURATION,
            }
        ),
    }
)
_POD_MONITOR = _object(
    {
        "selector": _object({"matchLabels": {"type": "object"}}),
        "podMetricsEndpoints": _list(_object({"port": _TEXT, "interval": _TEXT})),
    }
)
_RULE = {
    "oneOf": [
        _object({"record": _TEXT, "expr": _TEXT}),
        _object(
            {"alert": _TEXT, "expr": _TEXT, "labels": {"type": "object"}, "annotations": {"type": "object"}},
            {"for": _TEXT},
        ),
    ]
}
_PROMETHEUS_RULE = _object(
    {"groups": _list(_object({"name": _TEXT, "interval": _TEXT, "rules": _list(_RULE)}))}
)

SPECS = {
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
    ("cert-manager.io/v1", "Certificate"): _CERTIFICATE,
    ("cert-manager.io/v1", "Issuer"): _ISSUER,
    ("gateway.networking.k8s.io/v1", "Gateway"): _INGRESS_GATEWAY,
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): _GRPC_ROUTE,
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"): _BACKEND_TLS,
    ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"): _BACKEND_TRAFFIC,
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"): _SECURITY,
    ("monitoring.coreos.com/v1", "PodMonitor"): _POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _PROMETHEUS_RULE,
}
"""The ``spec`` of each kind, as JSON schema."""
