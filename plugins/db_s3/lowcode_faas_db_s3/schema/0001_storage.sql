-- Text that is sorted or searched by prefix is in code-point order, whatever the database's locale.
-- Env and limits are JSON in ASCII: jsonb would lose the order of keys and refuse NUL.
-- Times are RFC 3339 in UTC with microseconds, as the API answers them.

CREATE TABLE collections (
    path text COLLATE "C" PRIMARY KEY,
    -- A collection with children, or with functions, cannot be deleted: the references hold it.
    parent text COLLATE "C" REFERENCES collections (path),
    env text NOT NULL DEFAULT '{}',
    created_at text COLLATE "C" NOT NULL,
    CHECK ((path = '') = (parent IS NULL))
);
CREATE INDEX collections_parent ON collections (parent);

INSERT INTO collections (path, parent, created_at)
VALUES ('', NULL, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));

CREATE TABLE functions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_path text COLLATE "C" NOT NULL REFERENCES collections (path),
    name text COLLATE "C" NOT NULL,
    language text NOT NULL,
    env text NOT NULL DEFAULT '{}',
    -- The current version; 0 only inside the transaction that creates the function.
    latest_version bigint NOT NULL DEFAULT 0,
    created_at text COLLATE "C" NOT NULL,
    updated_at text COLLATE "C" NOT NULL,
    UNIQUE (collection_path, name)
);

CREATE TABLE deployments (
    deployment_id text COLLATE "C" PRIMARY KEY,
    function_id bigint NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    source_url text,
    reuse text NOT NULL,
    limits text NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    checked boolean NOT NULL,
    restored_from bigint,
    -- Shared by a deployment and those restored from it.
    object_key text COLLATE "C" NOT NULL,
    UNIQUE (function_id, version)
);
CREATE INDEX deployments_object_key ON deployments (object_key);
