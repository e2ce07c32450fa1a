"""Words that are written with a capital letter and are not a person's name."""

from functools import cache
from pathlib import Path
from typing import Final

_COMMON: Final = (
    "a about above after again all also although always an and another any anyone anything are as ask at be because "
    "been before being below best better between both but by can cannot could create currently dear did do does "
    "doing done each either else even every everyone everything example explain find first following for from "
    "generate get give given go good great had has have having he hello help hence her here hers hey hi him his how "
    "however i if in include instead into is it its just keep know last least less let like list look made make "
    "many may maybe me might more most much must my need never new next no none nor not nothing note now of off "
    "often ok okay on once one only open or other others our out over own part per please provide put read regards "
    "remember return right run same say second see several shall she should show since so some someone something "
    "sometimes still such sure take tell than thank thanks that the their them then there therefore these they "
    "thing things think this those though three through thus time to today together tomorrow too translate try two "
    "under unless until up upon us use used user using very via want was way we welcome well were what whatever "
    "when where whether which while who whole whom whose why will with within without would write yes yesterday yet "
    "you your yours yourself monday tuesday wednesday thursday friday saturday sunday january february march april "
    "june july august september october november december english french german spanish italian american european "
    "british chinese japanese ai api cpu css csv gpu html http https id ids json jwt llm ml mr mrs ms dr nlp pdf "
    "pii sdk sql ssh ssl tls ui url urls utc uuid xml yaml system assistant human function tool tools weather error "
    "errors warning info debug true false null request requests response responses server client service services "
    "order orders customer customers data database "
)
_PRODUCTS: Final = (
    "airflow alexa algolia alibaba amazon anthropic apache apollo argo arize asana athena atlas aurora avro azure "
    "bard bedrock bert bitbucket canva cassandra celery chatgpt chroma claude cohere confluence copilot cursor "
    "cypress dall-e databricks datadog deepseek devin discord django docker dynamodb elastic elasticsearch facebook "
    "fastapi firebase flask gemini gemma github gitlab gmail google gpt grafana grok groq hadoop haiku haystack "
    "helm heroku hive honeycomb hugging ibm instagram istio jaeger java javascript jenkins jest jira julia jupyter "
    "kafka keras kibana kotlin kubernetes lambda langchain langfuse langgraph langsmith langtrace laravel linkedin "
    "linux litellm llama logfire loki mailchimp mariadb marqo meta microsoft midjourney milvus mistral mongodb "
    "mysql neo4j netflix nginx node notion nova nvidia okta ollama openai openllmetry openrouter opentelemetry opus "
    "oracle otel outlook paypal perplexity phoenix pinecone postgres postgresql presidio prometheus pydantic pytest "
    "python pytorch qdrant qwen rabbitmq rails ray react reddit redis ruby rust sagemaker salesforce sap scala "
    "sentry shopify siri slack snowflake sonnet spacy spark splunk spotify spring sqlite stripe supabase swift "
    "tempo tensorflow terraform tesla tiktok traceloop trello turing twilio twitter typescript uber ubuntu vault "
    "vercel vertex vscode weaviate weights whatsapp whisper wikipedia windows workday xai youtube zapier zendesk "
    "zipkin zoom "
)
_TECHNICAL: Final = (
    "args array async backend bigint bitmap blob bool boolean byte bytea bytes cache cached caches caching callback "
    "checksum checksums chunks cli clickhouse config coroutine coroutines dataclass datetime daemon docstring dtype "
    "embedding embeddings encoder endpoint endpoints env epoch eval evals exemplars failover filesystem fsync gateway "
    "gateways genai goroutine grpc gzip hashing hex histogram hostname hotfix ids init ingest integer iterator json "
    "jsonb jwks kpi kpis latency linter llms localhost localtime logger loopback metadata middleware mkdir mutex mypy "
    "namespace netmask null openapi openssl otlp parser parquet percentiles pip pod pods postmortem propagator proxy "
    "protobuf pypi queue queues readonly receivers recursion recursive regex relay repo repos retry rollback rollup "
    "rollups router runtime sandbox scalability schema schemas scrape sdk shard shards socket sockets spool "
    "stderr stdin stdout stdlib subclass subprocess substring syscall syslog systemd telemetry threadpool timeout "
    "timestamp tokenizer tokenizers toml tracer tracing tuple tuples unittest unpickling urllib uvicorn uvloop "
    "validator varchar vectorstore webhook webhooks websocket workflow yaml "
)
COMMON_WORDS: Final = frozenset(_COMMON.split())
"""The commonest words of English that begin sentences, months, languages, and what prompts and logs speak of."""
PRODUCTS: Final = frozenset((_PRODUCTS + _TECHNICAL).split())
"""Products, companies and terms of software that a model takes for people or places."""
NOBODY: Final = COMMON_WORDS | PRODUCTS
"""All of them."""
_ORDINARY: Final = Path(__file__).with_name("ordinary_words.txt")
_COMMENT: Final = "#"


def is_plain(word: str) -> bool:
    """Return whether a word in small letters is no sign of a name, even if it was written with a capital letter."""
    return word in NOBODY or word in _ordinary()


@cache
def _ordinary() -> frozenset[str]:
    lines = _ORDINARY.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith(_COMMENT) for word in line.split())
