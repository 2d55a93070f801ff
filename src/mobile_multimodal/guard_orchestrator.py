"""The documented path of the orchestrator, and its documented command line.

python3 -m src.mobile_multimodal.guard_orchestrator --config config.yaml --start | --status
"""

from pipeline_guard.cli.documented import orchestrator_main
from pipeline_guard.orchestrator import PipelineOrchestrator

__all__ = ["PipelineOrchestrator"]

if __name__ == "__main__":
    orchestrator_main()
