"""What queries of the older systems ask for: their columns, their ids and their times.

Storage stays as it is, but for `feedback`, which is the table of the older module itself: it gets that one's names for
two columns, and on SQLite the form of its times. The views answer for the other tables: `ask_logs` and `events` have
naive times in UTC (on SQLite text with a `T`), so that `ts >= '2026-11-29T00:00:00'` is right on both databases, and
`chronicle_events`, `chronicle_runs` and `chronicle_steps` the types that their columns had on each database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Name columns of `feedback` as the older module did, and make the views anew."""
    postgres = op.get_context().dialect.name == "postgresql"
    _feedback(postgres=postgres)
    for view in ("ask_logs", "events", "chronicle_events"):
        op.execute(f"DROP VIEW {view}")
    for statement in (_ask_logs(postgres=postgres), _events(postgres=postgres), _chronicle_events(postgres=postgres)):
        op.execute(statement)
    op.execute(_POSTGRES_RUNS if postgres else _SQLITE_RUNS)
    op.execute(_POSTGRES_STEPS if postgres else _SQLITE_STEPS)


def _feedback(*, postgres: bool) -> None:
    for name, said in (("sid", "session_id"), ("sources_json", "CAST(sources AS TEXT)")):
        kept = "STORED" if postgres else "VIRTUAL"
        op.execute(f"ALTER TABLE feedback ADD COLUMN {name} TEXT GENERATED ALWAYS AS ({said}) {kept}")
    if not postgres:
        op.execute(sa.text("UPDATE feedback SET ts = replace(ts, ' ', 'T')"))


def _time(*, postgres: bool) -> str:
    return "ts AT TIME ZONE 'UTC'" if postgres else "replace(ts, ' ', 'T')"


def _ask_logs(*, postgres: bool) -> str:
    """Return the view of requests. An id is a whole number made of the time, so that it rises with it.

    Four of them fit into a microsecond; which one a request has follows from its span.
    """
    microseconds = "CAST(EXTRACT(EPOCH FROM ts) * 1000000 AS BIGINT)"
    if not postgres:
        microseconds = "(CAST(strftime('%s', ts) AS INTEGER) * 1000000 + CAST(substr(ts, 21) AS INTEGER))"
    place = "strpos" if postgres else "instr"
    return f"""
CREATE VIEW ask_logs AS
SELECT {microseconds} * 4 + {place}('0123456789abcdef', substr(span_id, 16, 1)) % 4 AS id,
       {_time(postgres=postgres)} AS ts, session_id AS sid, ip_hash, query_text AS query, normalized, scope, allow_tps,
       CAST(ROUND(latency_ms) AS INTEGER) AS latency_ms, model, CAST(ok AS INTEGER) AS ok, topk AS topk_json,
       prompt_tokens AS tokens_in, completion_tokens AS tokens_out, answer_text AS answer
FROM request_log
"""  # noqa: S608  # nothing here comes from outside


def _events(*, postgres: bool) -> str:
    return f"""
CREATE VIEW events AS
SELECT id, {_time(postgres=postgres)} AS ts, type, session_id AS sid, user_agent AS ua, ip_hash, data AS data_json
FROM browser_event
"""  # noqa: S608


def _chronicle_events(*, postgres: bool) -> str:
    """Return the view of model calls and custom events, with the types that its columns had in that database.

    There the type of a model call is chronicle_llm_request, texts are not NULL, milliseconds and versions of prompts
    are whole numbers, errors are JSON, times on SQLite are whole seconds since the epoch, and no row has a price plan.
    """
    created = "{0}" if postgres else "CAST(strftime('%s', {0}) AS INTEGER)"
    quoted = "to_jsonb({0})" if postgres else "CASE WHEN {0} IS NOT NULL THEN json_quote({0}) END"
    digits = "{0} ~ '^[0-9]{{1,9}}$'" if postgres else "{0} <> '' AND {0} NOT GLOB '*[^0-9]*'"
    version = f"CASE WHEN {digits} THEN CAST({{0}} AS INTEGER) END"
    null = "CAST(NULL AS {0})"
    json, plan = ("JSONB", "UUID") if postgres else ("TEXT", "BIGINT")
    return f"""
CREATE VIEW chronicle_events AS
SELECT id, CASE event_type WHEN 'llm_call' THEN 'chronicle_llm_request' ELSE event_type END AS event_type,
       organization_id, project_id, user_id, chat_request, chat_response, {quoted.format("error")} AS error,
       COALESCE(provider, '') AS provider, COALESCE(model, '') AS model,
       COALESCE(application, '') AS application, COALESCE(environment, '') AS environment,
       COALESCE(request_organization_id, organization_id) AS request_organization_id,
       COALESCE(request_project_id, project_id) AS request_project_id,
       COALESCE(request_user_id, user_id) AS request_user_id, workflow_id, workflow_name, run_id, step_id,
       CAST(step_index AS INTEGER) AS step_index, prompt_id, {version.format("prompt_version")} AS prompt_version,
       meta, response_meta, CAST(retries AS INTEGER) AS retries, rate_limited,
       CAST(ROUND(request_latency_ms) AS INTEGER) AS request_latency_ms,
       CAST(ROUND(total_latency_ms) AS INTEGER) AS total_latency_ms, {null.format(plan)} AS pricing_plan,
       {created.format("ts")} AS created_at
FROM llm_call
UNION ALL
SELECT id, type, organization_id, project_id, user_id, {null.format(json)}, {null.format(json)}, error, '', '',
       COALESCE(application, ''), COALESCE(environment, ''), organization_id, project_id, user_id,
       workflow_id, workflow_name, run_id, step_id, CAST(step_index AS INTEGER), prompt_id,
       {version.format("prompt_version")}, data, {null.format(json)}, NULL, NULL, NULL, NULL, {null.format(plan)},
       {created.format("ts")}
FROM workflow_event
"""  # noqa: S608


_POSTGRES_TAGS = "CASE WHEN jsonb_typeof(tags) = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(tags)) END"
_POSTGRES_RUNS = f"""
CREATE VIEW chronicle_runs AS
SELECT id, COALESCE(name, '') AS name, description, application, environment, input, output, status, trace_id, span_id,
       {_POSTGRES_TAGS} AS tags, info, updated_at, created_at
FROM workflow_run
"""  # noqa: S608
_POSTGRES_STEPS = f"""
CREATE VIEW chronicle_steps AS
SELECT id, run_id, COALESCE(type, '') AS type, parent_step, name, input, output, status, {_POSTGRES_TAGS} AS tags, info,
       span_id, start_time, end_time
FROM workflow_step
"""  # noqa: S608
_SQLITE_TAGS = "(SELECT group_concat(value, '|') FROM (SELECT value FROM json_each(tags) ORDER BY key))"
_SQLITE_RUNS = f"""
CREATE VIEW chronicle_runs AS
SELECT id, COALESCE(name, '') AS name, description, application, environment, input, output, status, trace_id, span_id,
       {_SQLITE_TAGS} AS tags, info, CAST(strftime('%s', updated_at) AS INTEGER) AS updated_at,
       CAST(strftime('%s', created_at) AS INTEGER) AS created_at
FROM workflow_run
"""  # noqa: S608
_SQLITE_STEPS = f"""
CREATE VIEW chronicle_steps AS
SELECT id, run_id, COALESCE(type, '') AS type, parent_step, name, input, output, status, span_id,
       {_SQLITE_TAGS} AS tags, info, CAST(strftime('%s', start_time) AS INTEGER) AS start_time,
       CAST(strftime('%s', end_time) AS INTEGER) AS end_time
FROM workflow_step
"""  # noqa: S608
