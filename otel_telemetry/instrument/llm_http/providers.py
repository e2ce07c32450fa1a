"""Whose a host is: the name of its provider in `gen_ai.provider.name`.

It is the owner of the host: of a host in the table below, or in the setting `llm_providers`. For an unknown server it
is `_OTHER`, whatever dialect it uses: a server that is compatible with OpenAI's has its own prices, if any
(`server.address` has its name). The name is the one in the conventions if there is one, else the id that genai-prices
has for the provider, so that prices are found only for known providers.
"""

import re
from collections.abc import Mapping

Owners = tuple[tuple[str, str], ...]

#: Hosts, or the domains that they are in, and whose they are.
PROVIDERS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "openrouter.ai": "openrouter",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.novita.ai": "novita",
    "api.voyageai.com": "voyageai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "ollama.com": "ollama",
    "azure-api.net": "azure.ai.openai",
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    "api.githubcopilot.com": "github-copilot",
    "router.huggingface.co": "huggingface",
    "api.deepinfra.com": "deepinfra",
    "gateway.ai.cloudflare.com": "cloudflare-gateway",
    "api.cloudflare.com": "cloudflare",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "gcp.databricks.com": "databricks",
    "ai-gateway.vercel.sh": "vercel",
    "api.portkey.ai": "portkey",
    "api.writer.com": "writer",
    "integrate.api.nvidia.com": "nvidia",
    "api.sambanova.ai": "sambanova",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.minimax.io": "minimax",
    "api.minimax.chat": "minimax",
    "api.minimaxi.com": "minimax",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "api.doubleword.ai": "doubleword",
    "inference.baseten.co": "baseten",
    "api.ai21.com": "ai21",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "dashscope-us.aliyuncs.com": "alibaba_cloud",
    "volces.com": "volcengine",
    "endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.featherless.ai": "featherless",
    "api.inference.net": "inference.net",
    "api.lambda.ai": "lambda",
    "inference.ai.nscale.com": "nscale",
    "llm.chutes.ai": "chutes",
    "router.requesty.ai": "requesty",
    "api.siliconflow.com": "siliconflow",
    "api.siliconflow.cn": "siliconflow",
    "api.stepfun.com": "stepfun",
    "api.meta.ai": "meta",
    "api.llama.com": "meta",
    "api.inceptionlabs.ai": "inception",
    "api.reka.ai": "reka",
    "api.upstage.ai": "upstage",
    "api.jina.ai": "jina_ai",
    "modal.run": "modal",
    "modal.direct": "modal",
    "api.quicksilverpro.io": "quicksilverpro",
    "api.typesafe.ai": "typesafe",
    "crusoecloud.com": "crusoe",
    "snowflakecomputing.com": "snowflake",
    "inference.heroku.com": "heroku",
    "api.elevenlabs.io": "elevenlabs",
    "api.replicate.com": "replicate",
}
#: The provider's name for a server that nobody knows.
UNKNOWN_PROVIDER = "_OTHER"

_PATTERNS = (
    (re.compile(r"(?:[\w-]+-)?aiplatform(?:\.[\w-]+\.rep)?\.googleapis\.com"), "gcp.vertex_ai"),
    (
        re.compile(r"(?:[\w-]+\.)?bedrock-(?:(?:agent-)?runtime|mantle)[\w.-]*\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
        "aws.bedrock",
    ),
)
_AZURE_PATH = re.compile(r"/openai/deployments/[^/]+/")
_HUGGINGFACE = re.compile(r"/(?P<seller>[a-z0-9-]+)/v1/")
_GATEWAY = re.compile(r"/v1/[^/]+/[^/]+/(?P<seller>[a-z-]+)/")  # Cloudflare's: account, gateway, provider


def seller(owner: str | None, path: str, fallback: str) -> str:
    """Return the provider: a host's owner, or whom its path names where the host is a gateway to others."""
    if owner == "huggingface" and (found := _HUGGINGFACE.match(path)):
        return f"huggingface_{found['seller']}"
    if owner == "cloudflare-gateway":
        found = _GATEWAY.match(path)
        return _BEHIND_GATEWAY.get(found["seller"] if found else "", owner)
    if owner is None and _AZURE_PATH.search(path):
        return "azure.ai.openai"
    return owner or fallback


#: How Cloudflare's gateway calls providers that we call otherwise.
_BEHIND_GATEWAY: Mapping[str, str] = {
    **{name: name for name in ("openai", "anthropic", "groq", "deepseek", "cohere", "openrouter", "cerebras")},
    "aws-bedrock": "aws.bedrock",
    "azure-openai": "azure.ai.openai",
    "google-ai-studio": "gcp.gemini",
    "google-vertex-ai": "gcp.vertex_ai",
    "grok": "x_ai",
    "mistral": "mistral_ai",
    "perplexity-ai": "perplexity",
    "workers-ai": "cloudflare",
}


def owner_of(host: str, providers: Owners = ()) -> str | None:
    """Return the owner of a host: the entry for it or for a domain above it; `providers` have priority."""
    name = host.lower().rstrip(".")
    known = {**PROVIDERS, **dict(providers)} if providers else PROVIDERS
    while name:
        if name in known:
            return known[name]
        name = name.partition(".")[2]
    return next((owner for pattern, owner in _PATTERNS if pattern.fullmatch(host.lower())), None)
