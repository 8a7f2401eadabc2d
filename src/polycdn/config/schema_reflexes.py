"""[service.reflexes]: what edges do inside one request when a provider fails."""

from typing import Annotated, Literal

from pydantic import Field

from polycdn.config.table import Table
from polycdn.model.settings import Fallback, Reflexes

Text = Annotated[str, Field(min_length=1)]


class FallbackTable(Table):
    """What edges answer to GET and HEAD when nobody answered well and nothing kept may serve."""

    status: int = Field(default=503, ge=200, le=599, description="HTTP status of the answer.")
    content_type: Text = Field(default="text/html", description="Its media type.")
    body_file: Text = Field(description="The file with its body, 1 MiB at most.")


class ReflexesTable(Table):
    """What edges do inside one request besides trying the next provider."""

    identity: Literal["etag", "size+last-modified", "digest"] = Field(
        default="etag",
        description="What two providers must agree on before the bytes of one follow those of the other, "
        "if not on a strong ETag.",
    )
    integrity: Literal["told", "strict"] = Field(
        default="told", description="strict: digests that answers carry hold back the first byte too."
    )
    idempotency_scope: Literal["provider", "service"] = Field(
        default="provider", description="service: all providers know each other's Idempotency-Keys."
    )
    stall_timeout_ms: int = Field(
        default=2_000, ge=100, le=600_000, description="Without a byte for so long a body goes on elsewhere."
    )
    rate_min_bytes: int = Field(
        default=16_384,
        ge=0,
        le=1_073_741_824,
        description="The same below so many bytes a second; 0 = never.",
    )
    hold_max_bytes: int = Field(
        default=4_194_304,
        ge=0,
        le=67_108_864,
        description="A body up to this size waits whole for its digest.",
    )
    hedge_budget_bp: int = Field(
        default=500, ge=0, le=10_000, description="Requests that may ask two providers; 0 = none."
    )
    concurrency_max: int = Field(
        default=1_024, ge=1, le=1_000_000, description="Requests that a provider is given at once."
    )
    queue_max: int = Field(
        default=4_096, ge=0, le=1_000_000, description="Requests of a worker that wait for their turn."
    )
    sample_bp: int = Field(
        default=10, ge=0, le=10_000, description="Answers that are compared with another provider's."
    )
    fallback: FallbackTable | None = Field(default=None, description="The last thing to answer.")


def reflexes_of(table: ReflexesTable) -> Reflexes:
    """The table as the model has it."""
    last = table.fallback
    return Reflexes(
        identity=table.identity,
        integrity=table.integrity,
        idempotency_scope=table.idempotency_scope,
        stall_timeout_ms=table.stall_timeout_ms,
        rate_min_bytes_per_s=table.rate_min_bytes,
        hold_bytes_max=table.hold_max_bytes,
        hedge_budget_bp=table.hedge_budget_bp,
        concurrency_max=table.concurrency_max,
        queue_max=table.queue_max,
        sample_bp=table.sample_bp,
        fallback=Fallback(last.status, last.content_type, last.body_file) if last else None,
    )
