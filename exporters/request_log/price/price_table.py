"""Finds the entry of the `genai-prices` table for a call's model: by its exact name, or not at all.

genai-prices finds a model by rules, some of which match any name with a certain beginning or part: a future model could
get the price of its predecessor. A match counts only if the table has that name:

- it equals the model's id, or a name that the rules list (`ClauseEquals`, `ClauseEndsWith`);
- a rule that is an anchored regular expression (`^...$`) matches all of it;
- a rule `starts with X` or `contains X` matches, what follows X is a version of the same model (a date, `latest`,
  `preview`, `v1:0`, the owner of a fine-tuned `ft:` model), and what precedes it is a region and a vendor
  (`us.anthropic.`). X may end within a date or number of a version (`claude-sonnet-4-2025`, `gemini-2.0-flash-0`).

The kind of match is stored with the cost: `name` for the first, `version` for the others. Of several, the rule with the
longest text decides. The provider too must be known by name (`_PROVIDERS`, else the table's own id). It is not guessed
from the model, except if the provider is a framework and the model's own maker is certain. `_SAME_PRICE` lists
providers that sell another's models at its price.
"""

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

#: `gen_ai.provider.name` (and `gen_ai.system` before it) -> id in genai-prices, where the two differ.
_PROVIDERS: Final = {
    "amazon": "aws",
    "amazon_bedrock": "aws",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot_ai": "moonshotai",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
#: Sellers of another provider's models at that provider's list price. The table's own list of them has also sellers
#: that set prices of their own (DeepSeek's models on Azure), hence this shorter one.
#: Sources: azure.microsoft.com/pricing/details/azure-openai (global deployments), cloud.google.com/vertex-ai/pricing.
_SAME_PRICE: Final = {"azure": ("openai",), "google": ("anthropic",)}
#: Frameworks that put their own name where the provider's belongs, and the makers whose model names nobody else gives.
_FRAMEWORKS: Final = frozenset(
    {"strands-agents", "strands", "langchain", "llama_index", "llamaindex", "haystack", "gcp.vertex.agent"}
)
_MAKERS: Final = (
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(?:gpt-\d|o\d(?:-|$))"), "openai"),
    (re.compile(r"gemini-\d"), "google"),
    (re.compile(r"(?:[a-z]{2,6}(?:-gov)?\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek)\.[a-z]"), "aws"),
)
_SAME_MODEL: Final = re.compile(
    r"(?:[-@.:]?(?:20\d{6}|20\d{2}-\d{2}-\d{2}|\d{2}-20\d{2}|latest|v\d{1,2}(?::\d{1,2})?|:\d{1,2})"
    r"|-preview(?:-\d{2}-\d{2})?)*\Z"
)
#: A rule that ends within a version, and the numbered versions that only such rules know, and Google's Gemini has
#: (ai.google.dev/gemini-api/docs/models: "stable" versions end so, and cost what the model does).
_CUT: Final = re.compile(r"[-@](?:20\d*|0\d?)\Z")
_NUMBERED: Final = re.compile(r"[-@]0\d{2}\Z")
_REGION: Final = re.compile(r"(?:[a-z]{2,6}(?:-gov)?\.)?(?:[a-z0-9]+\.)?\Z")
_FINE_TUNED: Final = re.compile(r"[\w.-]*:.+\Z")
_PATH: Final = re.compile(r"(?:.*[/:])?(?:models|foundation-model|inference-profile)/([^/]+)\Z")
_CACHED_MODELS: Final = 4_096


@functools.lru_cache(maxsize=_CACHED_MODELS)
def find(provider: str, model: str) -> "tuple[ModelInfo, str, str] | str":
    """Return (entry, how its name matched, id of the seller in the table), or why there is none.

    Both names in lower case.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  # a quarter of a second, once

    by_id = {known.id: known for known in get_snapshot().providers}
    seller = by_id.get(_seller(provider, model))
    if seller is None:
        return f"no price list of provider {provider}"
    owners = [seller, *(by_id[other] for other in _SAME_PRICE.get(seller.id, ()) if other in by_id)]
    for owner in owners:
        for name in _spellings(provider, seller.id, model):
            found = _exact(owner, name)
            if found is not None:
                return *found, seller.id
    return f"{model} is not in the price list of {seller.id}"


def _seller(provider: str, model: str) -> str:
    if provider in _FRAMEWORKS:
        return next((maker for names, maker in _MAKERS if names.match(model)), provider)
    return _PROVIDERS.get(provider, provider)


def _spellings(provider: str, seller: str, model: str) -> Iterator[str]:
    """Yield the name, and what it is without a path, an ARN, or the provider in front."""
    yield model
    if found := _PATH.match(model):
        yield found[1]
    for prefix in (f"{provider}/", f"{seller}/"):
        if model.startswith(prefix):
            yield model.removeprefix(prefix)


def _exact(provider: "Provider", name: str) -> "tuple[ModelInfo, str] | None":
    """Return the model of that very name, and how it was found. Names listed as such go before patterns."""
    for model in provider.models:
        if name == model.id.lower() or any(_is_name(rule, name) for rule in _alternatives(model.match)):
            return model, "name"
    versions = ((_version(rule, name), model) for model in provider.models for rule in _alternatives(model.match))
    length, best = max(versions, key=lambda found: found[0], default=(0, None))
    return (best, "version") if best is not None and length else None


def _alternatives(rule: Any) -> Iterator[Any]:
    """Yield the rules of which one is enough; parts of an AND are none."""
    if hasattr(rule, "or_"):
        for part in rule.or_:
            yield from _alternatives(part)
    else:
        yield rule


def _is_name(rule: Any, name: str) -> bool:
    return name == getattr(rule, "equals", getattr(rule, "ends_with", "")).lower()


def _version(rule: Any, name: str) -> int:
    """Return how long the text is by which a rule knows the name as a version of its model; 0 where it does not."""
    if hasattr(rule, "and_"):
        return max(_version(part, name) for part in rule.and_) if rule.is_match(name) else 0
    if hasattr(rule, "regex"):
        anchored = rule.regex.startswith("^") and rule.regex.endswith("$")
        return len(name) if anchored and re.match(rule.regex, name) else 0
    text = str(getattr(rule, "starts_with", getattr(rule, "contains", getattr(rule, "ends_with", "")))).lower()
    at = name.find(text) if text else -1
    if at < 0 or (at and (hasattr(rule, "starts_with") or not _REGION.match(name[:at]))):
        return 0
    if cut := _CUT.search(text):
        rest = name[at + cut.start() :]
        return len(text) if _SAME_MODEL.match(rest) or _NUMBERED.match(rest) else 0
    return len(text) if _is_same_model(text, name[at + len(text.rstrip("-@")) :]) else 0


def is_same(one: str, other: str) -> bool:
    """Return whether two names are of one model: the same, or one is the other with a version behind it.

    What stands before the last slash, as the provider's name, does not count.
    """
    short, long = sorted((name.lower().rpartition("/")[2] for name in (one, other)), key=len)
    return long.startswith(short) and _is_same_model(short, long[len(short) :])


def _is_same_model(known: str, rest: str) -> bool:
    """Return whether what follows a known text is a version of the same model, or whose fine-tuned model it is."""
    if known.startswith("ft:"):
        return _FINE_TUNED.match(rest) is not None
    if known.startswith("gemini-") and _NUMBERED.match(rest):
        return True
    return known.endswith(".ft-") or _SAME_MODEL.match(rest) is not None
