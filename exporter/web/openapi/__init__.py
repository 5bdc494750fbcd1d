"""The description of the interface, built from the types that decode it."""

from exporter.web.openapi.document import document

__all__ = ["document"]
