"""Recognises calls that cost more because their endpoint keeps them in a region: price tables have no such prices.

Sources: platform.claude.com/docs/en/about-claude/pricing (10 % more on Vertex AI from Claude 4.5 on, except on the
global endpoint), developers.openai.com/api/docs/models (10 % more from GPT-5.4 on).
"""

import re
from typing import Final

FEATURE: Final = "processing in a region"
#: The provider's host for which the list price is meant, and the models that cost more at its other hosts.
LISTED: Final = {
    "openai": ("api.openai.com", re.compile(r"(?:ft:)?gpt-(?:5\.(?:[4-9]|\d\d)|[6-9]|\d\d)")),
    "gcp.vertex_ai": ("aiplatform.googleapis.com", re.compile(r"claude-[a-z]+-(?:4-(?:[5-9]|1\d)\b|[5-9]|\d\d)")),
}
#: Others than these are proxies and mocks, of which nothing is known.
_OURS: Final = (".api.openai.com", ".googleapis.com")


def surcharge(provider: str, host: str, model: str | None) -> str | None:
    """Return what no price table has about a call, if its endpoint makes it dearer than the list says."""
    listed = LISTED.get(provider)
    if listed is None or host == listed[0] or model is None:
        return None
    return FEATURE if host.endswith(_OURS) and listed[1].match(model) else None
