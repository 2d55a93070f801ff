"""Workers and their number as JSON: the documented fields. What is not measured is null."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_finetuner.operations.scaling import Direction, NodeType


class ScalingStatus(Answer):
    """How many workers there are and how busy the machine is."""

    auto_scaling_enabled: bool = Field(
        description="Whether this process fits the number of its workers to the queue by itself."
    )
    current_nodes: int = Field(
        examples=[2], description="Workers that were heard of lately, on all machines."
    )
    target_nodes: int | None = Field(
        description="How many this process should run; null where it runs none."
    )
    cpu_utilization: float | None = Field(description="Percent, of this machine.")
    gpu_utilization: float | None = Field(description="Percent; null without an accelerator.")
    cost_per_hour: float | None = Field(description="Null: nobody here knows a price.")
    scaling_events_last_hour: int
    min_nodes: int
    max_nodes: int


class ScalingBody(Body):
    """The documented request."""

    model_config = ConfigDict(strict=False)

    direction: Direction
    node_type: NodeType = NodeType.WORKER
    count: Annotated[int, Field(strict=True, ge=1, le=256)]
    reason: Annotated[str, Field(min_length=1, max_length=500, examples=["increased_load"])]


class ScalingStarted(Answer):
    """The documented answer."""

    scaling_id: str
    status: str = Field(examples=["initiated"])
    estimated_completion: datetime | None = Field(
        description="Null: how long a worker takes to start is not measured."
    )
    target_nodes: int
