"""The error table is the contract's, section 3, and nothing is told without its details."""

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2

from walnatsd.api.errors import TABLE, problem
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.door import refused
from walnatsd.servers.grpc_errors import status_of

CONTRACT = {
    "UNKNOWN_EVENT": ("NOT_FOUND", 404),
    "INVALID_NAME": ("INVALID_ARGUMENT", 400),
    "INVALID_HEADER": ("INVALID_ARGUMENT", 400),
    "INVALID_UID": ("INVALID_ARGUMENT", 400),
    "INVALID_TIME": ("INVALID_ARGUMENT", 400),
    "SCHEMA": ("INVALID_ARGUMENT", 422),
    "TOO_LARGE": ("INVALID_ARGUMENT", 413),
    "NO_ACTORS": ("FAILED_PRECONDITION", 409),
    "EVENT_FULL": ("RESOURCE_EXHAUSTED", 507),
    "BUSY": ("RESOURCE_EXHAUSTED", 429),
    "SEQUENCE": ("ABORTED", 409),
    "NATS_UNAVAILABLE": ("UNAVAILABLE", 503),
    "DUPLICATE": ("ALREADY_EXISTS", 409),
    "NO_RESPONSE": ("DEADLINE_EXCEEDED", 504),
    "DEAD_LETTER": ("ABORTED", 502),
    "TOKEN": ("UNAUTHENTICATED", 401),
    "SCOPE": ("PERMISSION_DENIED", 403),
    "SERVER_VERSION": ("UNIMPLEMENTED", 501),
}
OUR_OWN = {
    "INVALID_REQUEST": ("INVALID_ARGUMENT", 400),
    "INVALID_DECLARATION": ("INVALID_ARGUMENT", 400),
    "INVALID_CONFIG": ("INVALID_ARGUMENT", 400),
    "UNKNOWN_ACTOR": ("NOT_FOUND", 404),
    "UNKNOWN_DEAD_LETTER": ("NOT_FOUND", 404),
    "UNKNOWN_MESSAGE": ("NOT_FOUND", 404),
    "SPOOL": ("UNAVAILABLE", 503),
    "CONFLICT": ("FAILED_PRECONDITION", 409),
    "RESPONSE_TOO_LARGE": ("RESOURCE_EXHAUSTED", 502),
    "REPLACED": ("ABORTED", 409),
    "NOT_READING": ("RESOURCE_EXHAUSTED", 429),
    "STOPPING": ("UNAVAILABLE", 503),
    "NATS_ERROR": ("INTERNAL", 500),
    "HOST": ("PERMISSION_DENIED", 403),
    "ORIGIN": ("PERMISSION_DENIED", 403),
    "UNKNOWN_PATH": ("UNIMPLEMENTED", 404),
    "WRONG_METHOD": ("UNIMPLEMENTED", 405),
}
"""Situations that the contract leaves to us."""


def test_every_reason_has_a_row() -> None:
    assert set(TABLE) == set(Reason)
    assert all(row.title for row in TABLE.values())


@pytest.mark.parametrize("reason", Reason)
def test_codes_and_statuses_are_those_of_the_contract(reason) -> None:
    row = TABLE[reason]
    assert (row.grpc, row.http) == (CONTRACT | OUR_OWN)[reason]
    assert hasattr(grpc.StatusCode, row.grpc)


@pytest.mark.parametrize("reason", Reason)
def test_a_grpc_error_carries_error_info_and_retry_info(reason) -> None:
    status = status_of(Refusal(reason, "in words", uid="u", maybe_stored=True, retry_after_s=1.5))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.code == grpc.StatusCode[TABLE[reason].grpc].value[0]
    assert status.message == "in words"
    assert status.details[0].Unpack(info)
    assert MessageToDict(info) == {
        "domain": "walnatsd", "reason": reason.value, "metadata": {"uid": "u", "maybe_stored": "true"},
    }  # fmt: skip
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_grpc_error_without_a_time_to_come_back_has_no_retry_info() -> None:
    status = status_of(Refusal(Reason.INVALID_UID, "in words"))
    [detail] = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert dict(info.metadata) == {"uid": "", "maybe_stored": "false"}


@pytest.mark.parametrize("reason", Reason)
def test_an_http_error_is_problem_details(reason) -> None:
    refusal = Refusal(reason, "in words", uid="u", maybe_stored=True, retry_after_s=0.2)
    assert problem(refusal) == {
        "type": "about:blank", "title": TABLE[reason].title, "status": TABLE[reason].http, "detail": "in words",
        "reason": reason.value, "uid": "u", "maybe_stored": True,
    }  # fmt: skip
    response = refused(refusal)
    assert response.status == TABLE[reason].http
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
