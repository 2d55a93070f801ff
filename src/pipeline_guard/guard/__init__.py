"""The guard itself: `SelfHealingPipelineGuard`. The main path is `loop`."""

from pipeline_guard.guard.facade import SelfHealingPipelineGuard

__all__ = ["SelfHealingPipelineGuard"]
