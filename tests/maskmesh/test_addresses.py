"""Hosts and ports as gRPC targets."""

import pytest

from maskmesh.rpc.addresses import check_endpoint, is_loopback, join_address, local_target, reachable_address


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:5"),
        ("::1", "[::1]:5"),
        ("[::1]", "[::1]:5"),
        ("::", "[::]:5"),
        ("[::]", "[::]:5"),
        ("localhost", "localhost:5"),
    ],
)
def test_literals_have_brackets(host: str, address: str) -> None:
    assert join_address(host, 5) == address


@pytest.mark.parametrize(
    ("host", "ports", "target"),
    [
        ("127.0.0.1", [1], "127.0.0.1:1"),
        ("127.0.0.1", [1, 2], "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("0.0.0.0", [1], "127.0.0.1:1"),
        ("0.0.0.0", [1, 2], "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("::", [1], "[::1]:1"),
        ("[::1]", [1, 2], "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_targets_of_this_machine(host: str, ports: list[int], target: str) -> None:
    assert local_target(host, ports) == target


def test_names_become_literals_for_several_servers() -> None:
    assert local_target("localhost", [1]) == "localhost:1"
    assert local_target("localhost", [1, 2]) in (
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1,[::1]:2",
    )
    with pytest.raises(OSError, match="is not known"):
        local_target("no.such.host.", [1, 2])


def test_wildcards_are_reached_by_the_name_of_the_machine() -> None:
    assert "0.0.0.0" not in reachable_address("0.0.0.0", 1)
    assert "::" not in reachable_address("[::]", 1)
    assert reachable_address("10.0.0.7", 1) == "10.0.0.7:1"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv6:[::1]:1", True),
        ("dns:///localhost:1", True),
        ("unix:/tmp/x", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("gateway.example:443", False),
        ("dns:///gateway:50050", False),
        ("10.1.2.3:50050", False),
    ],
)
def test_loopback_targets_use_no_proxy(target: str, expected: bool) -> None:
    assert is_loopback(target) is expected


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1", ":50777", "::1:50777", "http://127.0.0.1:5", "localhost:99999", "localhost:5/", "a:b"],
)
def test_other_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is no endpoint: it is HOST:PORT"):
        check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:5", "[::1]:5", "dns:///gateway:5", "ipv4:1.2.3.4:5,1.2.3.5:5", "unix:/tmp/x", "dns:5"],
)
def test_targets_of_grpc_are_accepted(endpoint: str) -> None:
    check_endpoint(endpoint)
