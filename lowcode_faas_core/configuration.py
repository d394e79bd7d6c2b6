"""The core's own variables, one settings class a concern. Plugins declare theirs in their package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.model import Reuse
from lowcode_faas_core.setting_values import (
    MAX_CAP,
    collection_caps,
    label_pairs,
    optional_integer,
    optional_path,
    parse_address,
    reuse_mode,
    socket_path,
    url_of_worker,
    url_template,
    worker_count,
)
from lowcode_faas_core.settings import (
    PREFIX,
    boolean,
    decimal,
    integer,
    name_list,
    path,
    setting,
    text,
)

__all__ = [
    "CORE_SETTINGS",
    "AccessSettings",
    "AdmissionSettings",
    "BackendSettings",
    "ClientSettings",
    "ExecutionSettings",
    "LimitSettings",
    "LogQuerySettings",
    "PoolSettings",
    "ServerSettings",
]


@dataclass(frozen=True)
class ServerSettings:
    """Where the roles listen, who may call, and how gunicorn is laid out."""

    listen: tuple[str, int] = setting(
        "LISTEN", parse_address, ":8080", "Address of the dispatcher: host:port or :port."
    )
    worker_listen: tuple[str, int] = setting(
        "WORKER_LISTEN", parse_address, ":9090", "Address of the worker: host:port or :port."
    )
    worker_socket: Path | None = setting(
        "WORKER_SOCKET",
        socket_path,
        "",
        "Unix socket on which the worker listens, too, for a dispatcher beside it; for owner and group.",
    )
    worker_url: str = setting(
        "WORKER_URL",
        url_of_worker,
        "",
        "Worker that runs every invocation, by http, https or unix:/path; empty: run in this process.",
    )
    worker_token: str = setting(
        "WORKER_TOKEN", text, "", "Secret the dispatcher shows to the worker.", secret=True
    )
    allow_anonymous: bool = setting(
        "ALLOW_ANONYMOUS",
        boolean,
        "false",
        "Serve without authentication on an address others can reach. An open port runs their code.",
    )
    workers: int = setting(
        "WORKERS", worker_count, "", "gunicorn workers; empty: the cores, at most 4."
    )
    threads: int = setting("THREADS", integer(3, 512), "24", "Threads of each gunicorn worker.")
    drain_notice_s: float = setting(
        "DRAIN_NOTICE_S",
        decimal(0, 600),
        "2",
        "Seconds after SIGTERM in which /readyz is red and everything is still served.",
    )
    drain_timeout_s: float = setting(
        "DRAIN_TIMEOUT_S",
        decimal(1, 86_400),
        "60",
        "Seconds running invocations may take after that; then they end as cancelled.",
    )


@dataclass(frozen=True)
class BackendSettings:
    """Which plugins serve which role."""

    storage: str = setting("STORAGE", text, "files", "Plugin that keeps functions.")
    runner: str = setting("RUNNER", text, "docker", "Plugin that runs them.")
    executions: str = setting(
        "EXECUTIONS",
        text,
        "",
        "Plugin that keeps execution records, or none; empty: that of STORAGE, if it can.",
    )
    source_fetchers: tuple[str, ...] = setting(
        "SOURCE_FETCHERS", name_list, "http", "Plugins that fetch sources by URL, or none."
    )
    source_timeout_s: float = setting(
        "SOURCE_TIMEOUT_S", decimal(0.1, 600), "30", "Seconds a whole fetch of a source may take."
    )
    metrics: str = setting("METRICS", text, "none", "Plugin that answers GET /metrics, or none.")
    plugins: tuple[str, ...] = setting("PLUGINS", name_list, "none", "Further plugins, or none.")
    trace_plugins: bool = setting(
        "TRACE_PLUGINS", boolean, "false", "Say on stderr each hook that is called, and on whom."
    )
    function_cache: bool = setting(
        "FUNCTION_CACHE", boolean, "true", "Keep sources in memory, by deployment id."
    )
    function_logs: bool = setting("FUNCTION_LOGS", boolean, "true", "Capture what functions print.")
    log_sinks: tuple[str, ...] = setting(
        "FUNCTION_LOGS_SINK", name_list, "stdout", "Plugins that take what functions print."
    )


@dataclass(frozen=True)
class PoolSettings:
    """How many sandboxes exist, and for how long."""

    max_instances: int = setting(
        "MAX_INSTANCES", integer(1), "64", "Cap on sandboxes that exist, of the whole service."
    )
    max_instances_per_function: int | None = setting(
        "MAX_INSTANCES_PER_FUNCTION",
        optional_integer(1),
        "",
        "Cap on sandboxes of one function; empty: half of MAX_INSTANCES.",
    )
    stock: int = setting("STOCK", integer(0), "2", "Sandboxes kept ready without code.")
    reuse: Reuse = setting(
        "REUSE", reuse_mode, "warm", "Default reuse of a deployment: warm or fresh."
    )
    idle_ttl_s: float = setting(
        "IDLE_TTL_S", decimal(0.1, 1e9), "600", "Seconds an idle instance is kept."
    )
    memory_budget_mb: int | None = setting(
        "MEMORY_BUDGET_MB",
        optional_integer(64),
        "",
        "Peak memory of all sandboxes, without what they share, above which the longest idle are ended, "
        "then the stock; what runs is never ended for it. Empty: no bound.",
    )
    queue: int = setting(
        "QUEUE", integer(0), "256", "Invocations that may wait for a sandbox, of the whole service."
    )
    queue_timeout_ms: int = setting(
        "QUEUE_TIMEOUT_MS", integer(1), "30000", "Longest wait for a sandbox."
    )

    @property
    def per_function(self) -> int:
        """The cap on sandboxes of one function."""
        if self.max_instances_per_function is not None:
            return self.max_instances_per_function
        return max(1, self.max_instances // 2)

    def share(self, processes: int) -> PoolSettings:
        """Return one serving process's part of every cap; a cap above zero stays at least one."""

        def part(whole: int) -> int:
            return max(1, whole // processes) if whole else 0

        return dataclasses.replace(
            self,
            max_instances=part(self.max_instances),
            max_instances_per_function=part(self.per_function),
            stock=part(self.stock),
            queue=part(self.queue),
            memory_budget_mb=None if self.memory_budget_mb is None else part(self.memory_budget_mb),
        )


@dataclass(frozen=True)
class AdmissionSettings:
    """What the whole service takes in, over all its gunicorn workers; the rest is a 429 at once."""

    max_inflight: int | None = setting(
        "MAX_INFLIGHT",
        optional_integer(1),
        "",
        "Cap on invocations in flight, running or waiting, of the whole service; empty: as many as "
        "there are places, WORKERS x (THREADS - 2).",
    )
    max_inflight_per_function: int | None = setting(
        "MAX_INFLIGHT_PER_FUNCTION",
        optional_integer(1),
        "",
        "The same for each function; empty: no cap, but each gunicorn worker keeps places free "
        "for functions that have few.",
    )
    max_inflight_per_collection: tuple[tuple[str, int], ...] = setting(
        "MAX_INFLIGHT_PER_COLLECTION",
        collection_caps,
        "",
        "The same for collections with all that lies below them: path=n,path=n.",
    )
    rate_per_token: int = setting(
        "RATE_PER_TOKEN",
        integer(0, MAX_CAP),
        "0",
        "Requests a second that each token may make, over all gunicorn workers; 0: no bound.",
    )


@dataclass(frozen=True)
class LimitSettings:
    """Bounds of requests and of user code: what a deployment gets, and may ask for at most."""

    default_timeout_ms: int = setting(
        "INVOKE_DEFAULT_TIMEOUT_MS", integer(1), "120000", "Deadline when a request names none."
    )
    max_timeout_ms: int = setting(
        "INVOKE_MAX_TIMEOUT_MS", integer(1), "900000", "Longest deadline a request may name."
    )
    memory_mb: int = setting("LIMIT_MEMORY_MB", integer(32), "256", "Memory of a sandbox, in MiB.")
    max_memory_mb: int = setting("MAX_MEMORY_MB", integer(32), "2048", "Most memory to ask for.")
    cpus: float = setting("LIMIT_CPUS", decimal(0.05, 1024), "1", "CPUs of a sandbox.")
    max_cpus: float = setting("MAX_CPUS", decimal(0.05, 1024), "4", "Most CPUs to ask for.")
    pids: int = setting(
        "LIMIT_PIDS", integer(16), "64", "Processes and threads of a sandbox; Node itself has 11."
    )
    max_pids: int = setting(
        "MAX_PIDS", integer(16), "512", "Most processes and threads to ask for."
    )
    tmp_mb: int = setting("LIMIT_TMP_MB", integer(1), "64", "Size of /tmp, in MiB.")
    max_tmp_mb: int = setting("MAX_TMP_MB", integer(1), "1024", "Largest /tmp to ask for.")
    body_bytes: int = setting(
        "MAX_BODY_BYTES", integer(1024), str(8 << 20), "Largest request body, in bytes."
    )
    source_bytes: int = setting(
        "MAX_SOURCE_BYTES", integer(1024), str(1 << 20), "Largest source, in bytes."
    )
    input_bytes: int = setting(
        "MAX_INPUT_BYTES", integer(1024), str(6 << 20), "Largest input, in bytes of JSON."
    )
    output_bytes: int = setting(
        "MAX_OUTPUT_BYTES", integer(1024), str(6 << 20), "Largest output, in bytes of JSON."
    )
    env_bytes: int = setting(
        "MAX_ENV_BYTES", integer(1024), str(64 << 10), "Largest env of one level, keys and values."
    )
    log_line_bytes: int = setting(
        "LOG_MAX_LINE_BYTES",
        integer(256, 1_000_000),
        str(64 << 10),
        "Longest log line, in bytes of UTF-8.",
    )
    log_run_bytes: int = setting(
        "LOG_MAX_RUN_BYTES", integer(1024), str(1 << 20), "Most a run may log, in bytes of UTF-8."
    )

    def __post_init__(self) -> None:
        """Refuse defaults above their own maximum."""
        pairs = (
            (
                "INVOKE_DEFAULT_TIMEOUT_MS",
                "default_timeout_ms",
                "INVOKE_MAX_TIMEOUT_MS",
                "max_timeout_ms",
            ),
            ("LIMIT_MEMORY_MB", "memory_mb", "MAX_MEMORY_MB", "max_memory_mb"),
            ("LIMIT_CPUS", "cpus", "MAX_CPUS", "max_cpus"),
            ("LIMIT_PIDS", "pids", "MAX_PIDS", "max_pids"),
            ("LIMIT_TMP_MB", "tmp_mb", "MAX_TMP_MB", "max_tmp_mb"),
        )
        problems = [
            f"{PREFIX}{name} ({getattr(self, field):.12g}) is above {PREFIX}{top} ({getattr(self, high):.12g})"
            for name, field, top, high in pairs
            if getattr(self, field) > getattr(self, high)
        ]
        if problems:
            raise ConfigurationError(problems)


@dataclass(frozen=True)
class ExecutionSettings:
    """What is kept of what ran, and for how long."""

    max_age_s: float = setting(
        "EXECUTIONS_MAX_AGE_S",
        decimal(60, 1e10),
        "604800",
        "Seconds after which an execution is deleted with its lines.",
    )
    max_bytes: int = setting(
        "EXECUTIONS_MAX_BYTES",
        integer(64 << 20),
        str(1 << 30),
        "Bytes executions may occupy; the oldest are deleted beyond it.",
    )
    keep_io: bool = setting(
        "EXECUTIONS_KEEP_IO",
        boolean,
        "false",
        "Keep inputs and outputs, too: replay needs them, and they may hold secrets.",
    )
    io_bytes: int = setting(
        "EXECUTIONS_IO_BYTES",
        integer(256, 8 << 20),
        str(64 << 10),
        "Bytes of an input, and of an output, that are kept; the rest is cut.",
    )


@dataclass(frozen=True)
class LogQuerySettings:
    """How what functions print is found again."""

    loki_labels: tuple[tuple[str, str], ...] = setting(
        "LOG_LOKI_LABELS",
        label_pairs,
        "job=lowcode-faas",
        "Labels of our streams in Loki, k=v,k=v: those the sink loki gives, or whoever scrapes "
        "standard output; queries select by them.",
    )
    explore_template: str = setting(
        "LOGS_GRAFANA_EXPLORE_URL_TEMPLATE",
        url_template,
        "",
        "Address of Grafana's Explore page with {{logql}} or, within JSON, {{logql_json}}, and "
        "{{run_id}}, {{deployment_id}}; empty: no such link is answered.",
    )


@dataclass(frozen=True)
class AccessSettings:
    """Who may call the API."""

    tokens_file: Path | None = setting(
        "API_TOKENS_FILE",
        optional_path,
        "",
        "File of the API's tokens, hashes only; empty: tokens.json in the data folder. Where it is "
        "missing there are no tokens.",
    )
    data_dir: Path = setting(
        "DATA_DIR", path, "data", "The data folder: what the service keeps on this host."
    )

    @property
    def tokens(self) -> Path:
        """Where the tokens are."""
        return self.tokens_file or self.data_dir / "tokens.json"


@dataclass(frozen=True)
class ClientSettings:
    """What `make run` and the command line show to a service."""

    url: str = setting(
        "URL",
        text,
        "",
        "Where the command line finds the service; else its configuration file says.",
    )
    token: str = setting("TOKEN", text, "", "Token of the API.", secret=True)


CORE_SETTINGS = (
    ServerSettings,
    AccessSettings,
    BackendSettings,
    PoolSettings,
    LimitSettings,
    LogQuerySettings,
    AdmissionSettings,
    ClientSettings,
    ExecutionSettings,
)
