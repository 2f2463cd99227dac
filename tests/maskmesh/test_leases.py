"""Leases and their table."""

import pytest

from maskmesh.errors import ResourceExhausted, SessionNotFound
from maskmesh.leases import Lease, LeaseTable


def table() -> LeaseTable[Lease]:
    return LeaseTable(max_sessions=2)


def test_a_found_session_is_renewed() -> None:
    leases = table()
    lease = Lease("a", 60.0)
    leases.add(lease)
    lease.expires -= 30.0
    before = lease.expires
    assert leases.find_unrenewed("a") is lease
    assert lease.expires == before
    assert leases.get("a") is lease
    assert lease.expires > before


def test_an_expired_session_is_not_found_and_listed_for_removal() -> None:
    leases = table()
    lease = Lease("a", 60.0)
    leases.add(lease)
    assert leases.expired() == []
    lease.expires = 0.0
    assert leases.find_unrenewed("a") is None
    with pytest.raises(SessionNotFound):
        leases.get("a")
    assert leases.expired() == [lease]
    assert leases.pop("a") is lease
    assert leases.pop("a") is None


def test_a_full_table_refuses_with_a_delay() -> None:
    leases = table()
    leases.add(Lease("a", 60.0))
    leases.check_room()
    leases.add(Lease("b", 60.0))
    with pytest.raises(ResourceExhausted) as raised:
        leases.check_room()
    assert raised.value.retry_seconds > 0
    leases.pop("a")
    leases.check_room()
