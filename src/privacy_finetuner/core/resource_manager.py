"""Documented import path; the room is `privacy_runtime.resources`."""

from privacy_runtime.resources.management import ResourceManagement, resource_manager

__all__ = ["ResourceManagement", "resource_manager"]
