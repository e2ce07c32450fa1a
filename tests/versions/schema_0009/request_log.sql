BEGIN TRANSACTION;
CREATE TABLE browser_event (
	id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	type TEXT NOT NULL, 
	session_id TEXT, 
	user_agent TEXT, 
	ip_hash TEXT, 
	data TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE dead_letter (
	id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	signal TEXT, 
	reason TEXT, 
	trace_id TEXT, 
	span_id TEXT, 
	service TEXT, 
	name TEXT, 
	item TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE feedback (
	id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	request_id TEXT, 
	trace_id TEXT, 
	session_id TEXT, 
	ip_hash TEXT, 
	verdict TEXT NOT NULL, 
	"query" TEXT, 
	answer TEXT, 
	note TEXT, 
	model TEXT, 
	scope TEXT, 
	sources TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE llm_call (
	id TEXT NOT NULL, 
	request_id TEXT, 
	trace_id TEXT NOT NULL, 
	span_id TEXT NOT NULL, 
	parent_span_id TEXT, 
	event_type TEXT, 
	ts DATETIME NOT NULL, 
	organization_id TEXT, 
	project_id TEXT, 
	user_id TEXT, 
	request_organization_id TEXT, 
	request_project_id TEXT, 
	request_user_id TEXT, 
	application TEXT, 
	environment TEXT, 
	workflow_id TEXT, 
	workflow_name TEXT, 
	run_id TEXT, 
	step_id TEXT, 
	step_index BIGINT, 
	prompt_id TEXT, 
	prompt_version TEXT, 
	operation TEXT, 
	provider TEXT, 
	model_requested TEXT, 
	model TEXT, 
	chat_request TEXT, 
	chat_response TEXT, 
	finish_reason TEXT, 
	provider_request_id TEXT, 
	prompt_tokens BIGINT, 
	cached_tokens BIGINT, 
	cache_write_tokens BIGINT, 
	completion_tokens BIGINT, 
	reasoning_tokens BIGINT, 
	token_basis TEXT, 
	cost_usd NUMERIC(20, 12), 
	cost_input_usd NUMERIC(20, 12), 
	cost_cached_usd NUMERIC(20, 12), 
	cost_output_usd NUMERIC(20, 12), 
	cost_source TEXT, 
	price_version TEXT, 
	retries BIGINT NOT NULL, 
	rate_limited BOOLEAN NOT NULL, 
	request_latency_ms DOUBLE, 
	total_latency_ms DOUBLE, 
	ttfb_ms DOUBLE, 
	tokens_per_second DOUBLE, 
	streamed BOOLEAN, 
	error TEXT, 
	ok BOOLEAN NOT NULL, 
	dialect TEXT, 
	meta TEXT, 
	response_meta TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "llm_call" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000002','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','0000000000000002','0000000000000001','llm_call','2026-09-21 14:13:20.500000',NULL,NULL,NULL,NULL,NULL,NULL,'chat',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'chat','openai','gpt-4o','gpt-4o',NULL,NULL,NULL,'resp-1',120,20,NULL,30,NULL,'inclusive',0.000575,0.00025,2.5e-05,0.0003,'computed','genai-prices/0.2.3',0,0,2000.0,2000.0,NULL,NULL,NULL,NULL,1,'gen_ai','{"price_match":"name"}',NULL);
INSERT INTO "llm_call" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-0000000000000002','req-7','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','0000000000000002','0000000000000001','llm_call','2026-09-21 14:13:20.200000',NULL,NULL,NULL,NULL,NULL,NULL,'chat',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'chat','openai','no-such-model','no-such-model',NULL,NULL,NULL,NULL,5,NULL,NULL,7,NULL,'inclusive',NULL,NULL,NULL,NULL,'unpriced',NULL,0,0,1000.0,1000.0,NULL,NULL,NULL,'it broke',0,'gen_ai',NULL,NULL);
CREATE TABLE otel_telemetry_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT otel_telemetry_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "otel_telemetry_version" VALUES('0009');
CREATE TABLE request_log (
	id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	trace_id TEXT NOT NULL, 
	span_id TEXT NOT NULL, 
	service TEXT, 
	environment TEXT, 
	session_id TEXT, 
	conversation_id TEXT, 
	user_id TEXT, 
	ip_hash TEXT, 
	route TEXT, 
	router_source TEXT, 
	router_confidence DOUBLE, 
	models TEXT, 
	model TEXT, 
	provider TEXT, 
	prompt_tokens BIGINT, 
	cached_tokens BIGINT, 
	cache_write_tokens BIGINT, 
	completion_tokens BIGINT, 
	reasoning_tokens BIGINT, 
	cost_usd NUMERIC(20, 12), 
	cost_input_usd NUMERIC(20, 12), 
	cost_cached_usd NUMERIC(20, 12), 
	cost_output_usd NUMERIC(20, 12), 
	cost_source TEXT, 
	latency_ms DOUBLE, 
	ttfb_ms DOUBLE, 
	tokens_per_second DOUBLE, 
	stage_ms TEXT, 
	llm_calls BIGINT NOT NULL, 
	retries BIGINT NOT NULL, 
	escalated BOOLEAN NOT NULL, 
	fallback_fired BOOLEAN NOT NULL, 
	cache_hit BOOLEAN NOT NULL, 
	ceiling_hit BOOLEAN NOT NULL, 
	per_user_cap_hit BOOLEAN NOT NULL, 
	rate_limited BOOLEAN NOT NULL, 
	prompt_version TEXT, 
	provider_request_id TEXT, 
	scope TEXT, 
	allow_tps BIGINT, 
	normalized TEXT, 
	topk TEXT, 
	degraded TEXT, 
	error TEXT, 
	ok BOOLEAN NOT NULL, 
	query_text TEXT, 
	answer_text TEXT, 
	meta TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "request_log" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001','2026-09-21 14:13:20.000000','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','0000000000000001','chat',NULL,'s-1',NULL,NULL,NULL,'direct',NULL,NULL,NULL,'gpt-4o','openai',120,20,NULL,30,NULL,0.000575,0.00025,2.5e-05,0.0003,'computed genai-prices/0.2.3',3000.0,NULL,NULL,'{"final":12.5}',1,0,0,0,0,0,0,0,NULL,'resp-1',NULL,NULL,NULL,NULL,'web_failed',NULL,1,NULL,NULL,'{"note":"kept in meta"}');
INSERT INTO "request_log" VALUES('req-7','2026-09-21 14:13:20.000000','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','0000000000000001','chat',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'no-such-model','openai',5,NULL,NULL,7,NULL,NULL,NULL,NULL,NULL,'unpriced',2000.0,NULL,NULL,NULL,1,0,0,0,0,0,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'what is a tent','a shelter',NULL);
CREATE TABLE span_node (
	trace_id TEXT NOT NULL, 
	span_id TEXT NOT NULL, 
	parent_span_id TEXT, 
	service TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	local_root BOOLEAN NOT NULL, 
	carrier BOOLEAN NOT NULL, 
	call BOOLEAN NOT NULL, 
	claimed_id TEXT, 
	facts TEXT, 
	part TEXT, 
	call_below BOOLEAN NOT NULL, 
	carrier_below BOOLEAN NOT NULL, 
	top TEXT, 
	root TEXT, 
	owner TEXT, 
	request_span_id TEXT, 
	direct_calls BIGINT NOT NULL, 
	is_request BOOLEAN NOT NULL, 
	log_id TEXT, 
	rollup TEXT, has_text BOOLEAN DEFAULT 0 NOT NULL, of_log BOOLEAN DEFAULT 0 NOT NULL, response_id TEXT, calls_above TEXT, 
	PRIMARY KEY (trace_id, span_id)
);
INSERT INTO "span_node" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','0000000000000001',NULL,'chat','2026-09-21 14:13:20.000000',1,1,0,'req-7','{"answer_text":"a shelter","id":"req-7","latency_ms":2000.0,"ok":true,"query_text":"what is a tent","service":"chat"}',NULL,0,1,'0000000000000001','0000000000000001',NULL,NULL,1,1,'req-7','{"last":{"":[1790000001200000000,"0000000000000002",["no-such-model","openai",null,null]]},"sums":{"#completion_tokens":1,"#prompt_tokens":1,"completion_tokens":7,"llm_calls":1,"prompt_tokens":5,"source:unpriced":1},"told":{}}',1,0,NULL,NULL);
INSERT INTO "span_node" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','0000000000000002','0000000000000001','chat','2026-09-21 14:13:20.200000',0,0,1,NULL,NULL,'{"last":{"":[1790000001200000000,"0000000000000002",["no-such-model","openai",null,null]]},"sums":{"#completion_tokens":1,"#prompt_tokens":1,"completion_tokens":7,"llm_calls":1,"prompt_tokens":5,"source:unpriced":1},"told":{}}',0,0,'0000000000000001','0000000000000001','0000000000000001','0000000000000001',0,0,NULL,NULL,0,0,NULL,NULL);
CREATE TABLE span_packed (
	id INTEGER NOT NULL, 
	trace_key BIGINT NOT NULL, 
	ts DATETIME NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "span_packed" VALUES(1,-3090978466871701281,'2026-09-21 14:13:20.500000','["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",[["0000000000000001",null,"chat","2026-09-21T14:13:20+00:00",null,{"degraded":"web_failed","latency_ms":3000.0,"meta":{"note":"kept in meta"},"ok":true,"route":"direct","service":"chat","session_id":"s-1","stage_ms":{"final":12.5}},99,[0,0,null,null],null,null,1],["0000000000000002","0000000000000001","chat","2026-09-21T14:13:20.500000+00:00","resp-1",null,4,[0,0,0,0],[{"#cached_tokens":1,"#completion_tokens":1,"#cost_cached_usd":1,"#cost_input_usd":1,"#cost_output_usd":1,"#cost_usd":1,"#prompt_tokens":1,"cached_tokens":20,"completion_tokens":30,"cost_cached_usd":25000000,"cost_input_usd":250000000,"cost_output_usd":300000000,"cost_usd":575000000,"llm_calls":1,"prompt_tokens":120,"source:computed genai-prices/0.2.3":1},{"":[1790000002500000000,"0000000000000002",["gpt-4o","openai",null,"resp-1"]]},{}],null,0]],[]]');
CREATE TABLE span_waiting (
	trace_id TEXT NOT NULL, 
	span_id TEXT NOT NULL, 
	parent_span_id TEXT, 
	service TEXT NOT NULL, 
	at_us BIGINT NOT NULL, 
	local_root BOOLEAN NOT NULL, 
	facts TEXT, 
	PRIMARY KEY (trace_id, span_id)
);
INSERT INTO "span_waiting" VALUES('cccccccccccccccccccccccccccccccc','0000000000000009','0000000000000008','chat',1790000001000000,0,NULL);
CREATE TABLE workflow_event (
	id TEXT NOT NULL, 
	run_id TEXT, 
	step_id TEXT, 
	type TEXT NOT NULL, 
	data TEXT, 
	error TEXT, 
	ts DATETIME NOT NULL, 
	request_id TEXT, 
	trace_id TEXT, 
	session_id TEXT, 
	user_id TEXT, 
	application TEXT, 
	environment TEXT, 
	organization_id TEXT, 
	project_id TEXT, 
	workflow_id TEXT, 
	workflow_name TEXT, 
	step_index BIGINT, 
	prompt_id TEXT, 
	prompt_version TEXT, 
	meta TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE workflow_run (
	id TEXT NOT NULL, 
	name TEXT, 
	description TEXT, 
	application TEXT, 
	environment TEXT, 
	input TEXT, 
	output TEXT, 
	status TEXT, 
	trace_id TEXT, 
	span_id TEXT, 
	tags TEXT, 
	info TEXT, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE workflow_seen (
	id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE workflow_state (
	run_id TEXT NOT NULL, 
	step_id TEXT NOT NULL, 
	ts DATETIME NOT NULL, 
	stamps TEXT NOT NULL, 
	has_text BOOLEAN NOT NULL, 
	PRIMARY KEY (run_id, step_id)
);
CREATE TABLE workflow_step (
	id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	type TEXT, 
	parent_step TEXT, 
	name TEXT, 
	input TEXT, 
	output TEXT, 
	status TEXT, 
	tags TEXT, 
	info TEXT, 
	span_id TEXT, 
	start_time DATETIME, 
	end_time DATETIME, 
	PRIMARY KEY (id, run_id)
);
CREATE INDEX ix_llm_call_request_id ON llm_call (request_id);
CREATE INDEX ix_llm_call_ts ON llm_call (ts);
CREATE INDEX ix_request_log_session_id ON request_log (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX ix_request_log_trace_id ON request_log (trace_id);
CREATE INDEX ix_request_log_user_id ON request_log (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_span_node_claim ON span_node (claimed_id, trace_id, span_id) WHERE claimed_id IS NOT NULL AND is_request = 1;
CREATE INDEX ix_span_node_loose ON span_node (trace_id, service) WHERE part IS NOT NULL AND owner IS NULL;
CREATE INDEX ix_span_node_parent ON span_node (trace_id, parent_span_id);
CREATE INDEX ix_span_node_part ON span_node (trace_id, request_span_id) WHERE part IS NOT NULL;
CREATE INDEX ix_span_node_request ON span_node (trace_id, service, span_id) WHERE is_request = 1;
CREATE INDEX ix_span_node_ts ON span_node (ts);
CREATE INDEX ix_span_node_text ON span_node (ts) WHERE has_text = 1;
CREATE INDEX ix_request_log_text ON request_log (ts) WHERE query_text IS NOT NULL OR answer_text IS NOT NULL OR normalized IS NOT NULL;
CREATE INDEX ix_llm_call_text ON llm_call (ts) WHERE chat_request IS NOT NULL OR chat_response IS NOT NULL;
CREATE INDEX ix_workflow_run_created_at ON workflow_run (created_at);
CREATE INDEX ix_workflow_run_name_created_at ON workflow_run (name, created_at);
CREATE INDEX ix_workflow_step_run_id ON workflow_step (run_id);
CREATE INDEX ix_workflow_event_ts ON workflow_event (ts);
CREATE INDEX ix_workflow_event_type_ts ON workflow_event (type, ts);
CREATE INDEX ix_workflow_event_run_id ON workflow_event (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX ix_workflow_event_session_id ON workflow_event (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX ix_workflow_event_user_id ON workflow_event (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_workflow_state_ts ON workflow_state (ts);
CREATE INDEX ix_workflow_state_text ON workflow_state (ts) WHERE has_text = 1;
CREATE INDEX ix_workflow_seen_ts ON workflow_seen (ts);
CREATE INDEX ix_feedback_ts ON feedback (ts);
CREATE INDEX ix_feedback_text ON feedback (ts) WHERE query IS NOT NULL OR answer IS NOT NULL OR note IS NOT NULL;
CREATE INDEX ix_feedback_request_id ON feedback (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX ix_feedback_session_id ON feedback (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX ix_browser_event_ts ON browser_event (ts);
CREATE INDEX ix_browser_event_type_ts ON browser_event (type, ts);
CREATE INDEX ix_browser_event_session_id ON browser_event (session_id) WHERE session_id IS NOT NULL;
CREATE VIEW ask_logs AS
SELECT id, ts, session_id AS sid, ip_hash, query_text AS query, normalized, scope, allow_tps, latency_ms, model,
       CAST(ok AS INTEGER) AS ok, topk AS topk_json, prompt_tokens AS tokens_in, completion_tokens AS tokens_out,
       answer_text AS answer
FROM request_log;
CREATE VIEW events AS
SELECT id, ts, type, session_id AS sid, user_agent AS ua, ip_hash, data AS data_json FROM browser_event;
CREATE VIEW chronicle_events AS
SELECT id, CASE event_type WHEN 'llm_call' THEN 'chronicle_llm_request' ELSE event_type END AS event_type,
       organization_id, project_id, user_id, chat_request, chat_response, CASE WHEN error IS NOT NULL THEN json_quote(error) END AS error,
       COALESCE(provider, '') AS provider, COALESCE(model, '') AS model,
       COALESCE(application, '') AS application, COALESCE(environment, '') AS environment,
       request_organization_id, request_project_id, request_user_id, workflow_id, workflow_name, run_id, step_id,
       CAST(step_index AS INTEGER) AS step_index, prompt_id, CASE WHEN prompt_version <> '' AND prompt_version NOT GLOB '*[^0-9]*' THEN CAST(prompt_version AS INTEGER) END AS prompt_version,
       meta, response_meta, CAST(retries AS INTEGER) AS retries, rate_limited,
       CAST(ROUND(request_latency_ms) AS INTEGER) AS request_latency_ms,
       CAST(ROUND(total_latency_ms) AS INTEGER) AS total_latency_ms, CAST(strftime('%s', ts) AS INTEGER) AS created_at
FROM llm_call
UNION ALL
SELECT id, type, NULL, NULL, NULL, CAST(NULL AS TEXT), CAST(NULL AS TEXT), error, '', '',
       COALESCE(application, ''), COALESCE(environment, ''), organization_id, project_id, user_id,
       workflow_id, workflow_name, run_id, step_id, CAST(step_index AS INTEGER), prompt_id,
       CASE WHEN prompt_version <> '' AND prompt_version NOT GLOB '*[^0-9]*' THEN CAST(prompt_version AS INTEGER) END, data, CAST(NULL AS TEXT), NULL, NULL, NULL, NULL, CAST(strftime('%s', ts) AS INTEGER)
FROM workflow_event;
CREATE INDEX ix_request_log_time ON request_log (ts, route, service, user_id, ok, llm_calls, prompt_tokens, cached_tokens, completion_tokens, cost_usd, cost_source, latency_ms, ttfb_ms, degraded, cache_hit);
CREATE INDEX ix_request_log_report ON request_log (route, ts, ok, llm_calls, prompt_tokens, cached_tokens, completion_tokens, cost_usd, cost_source, latency_ms, ttfb_ms, degraded, cache_hit);
CREATE INDEX ix_request_log_cache ON request_log (ts) WHERE cache_hit = 1;
CREATE INDEX ix_llm_call_report ON llm_call (model, ts, provider, application, ok, prompt_tokens, cached_tokens, completion_tokens, cost_usd, cost_source, total_latency_ms, ttfb_ms);
CREATE INDEX ix_span_waiting_at ON span_waiting (at_us);
CREATE INDEX ix_span_packed_trace_key ON span_packed (trace_key);
CREATE INDEX ix_span_packed_ts ON span_packed (ts);
COMMIT;
