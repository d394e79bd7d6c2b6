-- What ran. Times are microseconds since 1970; documents are JSON, which escapes the NUL that text
-- cannot hold. Rows come and go all day: they are vacuumed long before a fifth of them is dead.

-- Where executions come from: a subtree, a name or a deployment is found here, then by source.
-- Unused ones are removed days after their last use, when no writer can have them in its hands.
CREATE TABLE execution_sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_path text COLLATE "C" NOT NULL,
    function_name text COLLATE "C" NOT NULL,
    deployment_id text COLLATE "C" NOT NULL,
    used_on date NOT NULL DEFAULT current_date,
    UNIQUE (collection_path, function_name, deployment_id)
);
CREATE INDEX execution_sources_by_name ON execution_sources (function_name);
CREATE INDEX execution_sources_by_deployment ON execution_sources (deployment_id);

CREATE TABLE executions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id text COLLATE "C" NOT NULL UNIQUE,
    source_id bigint NOT NULL,
    -- NULL when it is the execution's own id.
    run_id text COLLATE "C",
    started_us bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    start text COLLATE "C",
    -- Who runs it, while it runs.
    owner text COLLATE "C",
    run_ms double precision,
    total_ms double precision,
    cpu_ms double precision,
    max_rss_bytes bigint,
    has_error boolean NOT NULL,
    -- What it counts for, 0 while it runs; and by how much the last write changed that.
    bytes integer NOT NULL,
    grown integer NOT NULL,
    document text NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);
-- An index for each way to look records up that is rare enough to be worth one: a list of what
-- succeeded, or began warm, finds its rows by time at once.
CREATE INDEX executions_by_time ON executions (started_us, id);
CREATE INDEX executions_by_source ON executions (source_id, started_us, id);
CREATE INDEX executions_by_run ON executions (run_id, started_us, id) WHERE run_id IS NOT NULL;
CREATE INDEX executions_by_status ON executions (status, started_us, id)
    WHERE status <> 'succeeded';
CREATE INDEX executions_by_source_status ON executions (source_id, status, started_us, id)
    WHERE status <> 'succeeded';
CREATE INDEX executions_by_start ON executions (start, started_us, id) WHERE start <> 'warm';
CREATE INDEX executions_by_source_start ON executions (source_id, start, started_us, id)
    WHERE start <> 'warm';

-- Inputs and outputs.
CREATE TABLE execution_exchanges (
    execution bigint PRIMARY KEY,
    document text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE execution_lines (
    execution bigint NOT NULL,
    seq bigint NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (execution, seq)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    toast.autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.1
);

-- Whoever has something running says here that it lives, by the server's clock; and each keeps the
-- account of the bytes it wrote and deleted, so that no two wait for one sum.
CREATE TABLE execution_owners (
    owner text COLLATE "C" PRIMARY KEY,
    seen_at timestamptz NOT NULL,
    bytes bigint NOT NULL
) WITH (fillfactor = 50);

-- Nobody misses these after a crash: they hold for seconds.
CREATE UNLOGGED TABLE execution_interests (
    execution_id text COLLATE "C" PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX execution_interests_by_time ON execution_interests (until, execution_id);
