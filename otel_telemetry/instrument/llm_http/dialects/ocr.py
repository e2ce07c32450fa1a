"""Mistral's OCR, also where Azure and Vertex AI offer it: charged by pages, dearer where they are annotated, too."""

from typing import Any

from otel_telemetry.instrument.llm_http.dialects import base, media
from otel_telemetry.instrument.llm_http.dialects.base import CallState, Json


class Ocr(media.Call):
    """POST …/ocr, and :rawPredict of such a model."""

    operation = "ocr"

    def _count(self, seen: CallState, value: Json) -> None:
        super()._count(seen, value)
        usage = base.part(value, "usage_info")
        annotated = value.get("document_annotation") is not None or _has_annotated_image(value.get("pages"))
        seen.counted("annotated_pages" if annotated else "pages", usage.get("pages_processed"))


def _has_annotated_image(pages: Any) -> bool:
    images = (image for page in base.items(pages) for image in base.items(page.get("images")))
    return any(image.get("image_annotation") is not None for image in images)
