"""CloudEvents attributes of an emit."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import walnats
from hypothesis import given
from hypothesis import strategies as st

import walnatsd_client as walnatsd
from emit_sidecar import Sidecar

COUNT = walnatsd.Event("counts", int)
MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
# what walnats writes as it should be: it doesn't percent-encode
PLAIN = st.text(st.sampled_from("abcXYZ0189/-_.:#?&=+~"), min_size=1)


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


@given(
    required=st.tuples(PLAIN, PLAIN, PLAIN),
    optional=st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("dataschema", "subject", "dataref", "partitionkey", "traceparent", "tracestate"), PLAIN),
            "sequence": PLAIN,
            "sampledrate": st.integers(1, 2**31 - 1),
            "datacontenttype": st.just("text/plain"),
            "time": st.datetimes(min_value=datetime(1000, 1, 1)),  # noqa: DTZ001 - walnats wants UTC without a zone
        },
    ),
)
def test_the_headers_are_those_of_walnats(required: tuple[str, str, str], optional: dict[str, Any]) -> None:
    ancestor = walnats.CloudEvent(*required, **optional)
    if "time" in optional:
        optional["time"] = optional["time"].replace(tzinfo=UTC)
    assert walnatsd.CloudEvent(*required, **optional).headers() == ancestor.as_headers()


def test_values_are_percent_encoded_and_extensions_are_written_in_their_types() -> None:
    zone = timezone(timedelta(hours=2))
    meta = walnatsd.CloudEvent(
        'a "7" 1%',
        "/ware house",
        "t",
        subject="ü",
        time=MOMENT.astimezone(zone),
        extensions={"urgent": True, "late": False, "level": 3, "team": "a\nb"},
    )
    assert meta.headers() == {
        "ce-id": "a%20%227%22%201%25",
        "ce-source": "/ware%20house",
        "ce-type": "t",
        "ce-specversion": "1.0",
        "ce-subject": "%C3%BC",
        "ce-time": "2030-01-02T03:04:05Z",
        "ce-urgent": "true",
        "ce-late": "false",
        "ce-level": "3",
        "ce-team": "a%0Ab",
    }


async def test_meta_goes_with_the_headers_and_identifies_the_message(
    sidecar: Sidecar, conn: walnatsd.Connection
) -> None:
    meta = walnatsd.CloudEvent("7", "/w", "counts", datacontenttype="text/plain")
    await conn.emit(COUNT, 1, meta=meta, headers={"team": "a"})
    await conn.emit(COUNT, 1, meta=meta, uid="one")
    first, second = sidecar.emitted
    assert dict(first.headers) == {"team": "a"} | meta.headers()
    assert (first.uid, second.uid) == ("", "one")  # the sidecar makes `/w 7` of it
    assert first.content_type == "text/plain"


async def test_an_attribute_given_twice_is_refused(sidecar: Sidecar, conn: walnatsd.Connection) -> None:
    meta = walnatsd.CloudEvent("7", "/w", "counts", subject="s")
    with pytest.raises(ValueError, match="ce-subject stands in headers and in meta"):
        await conn.emit(COUNT, 1, meta=meta, headers={"CE-Subject": "other"})
    assert sidecar.emitted == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"id": ""}, "id must not be empty"),
        ({"source": ""}, "source must not be empty"),
        ({"time": datetime(2030, 1, 1)}, "time needs a time zone"),  # noqa: DTZ001 - that is the mistake
        ({"extensions": {"Team": "a"}}, "'Team' is no name of an extension"),
        ({"extensions": {"data": "a"}}, "'data' is no name of an extension"),
        ({"extensions": {"subject": "a"}}, "subject is an attribute of CloudEvent"),
    ],
)
def test_what_cloudevents_does_not_allow_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        walnatsd.CloudEvent(**({"id": "7", "source": "/w", "type": "counts"} | options))
