"""The city's tables, in SQL that PostgreSQL and SQLite both speak but for a few words.

A migration is never changed once it has been released; a new one is added. `{word}` stands for
what the two call differently.
"""

from __future__ import annotations


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


# In the order in which rows are put together.
RECORD = _columns(
    "gateway run stream seq kind start_utc end_utc clock_state clock_error_s flag reasons n"
    " expected values config received_utc"
)
GAP = _columns("gateway run stream first seq reason kind start_utc end_utc received_utc")
ALERT = _columns(
    "gateway run seq kind sensor alert id state severity time_utc since_utc text_ja text_en"
    " values clock_state clock_error_s config received_utc"
)
ALARM = _columns(
    "gateway sensor alert id state severity time_utc since_utc text_ja text_en values received_utc"
)
REJECTED = _columns(
    "digest received_utc topic reason size_bytes payload gateway run stream seq is_held"
)
GATEWAY = _columns(
    "gateway state run reason heard_utc since_utc version config policy label_ja label_en"
    " latitude longitude owner licence"
)
SENSOR = _columns(
    "gateway sensor kind driver window_s label_ja label_en latitude longitude quantities"
    " directions seen_utc"
)
BIRTH = _columns("gateway run config received_utc document")
HEALTH = _columns("gateway run received_utc document")
RUN_TOLD = ("version", "started_utc", "previous", "clean")

WORDS = {
    "postgresql": {
        "json": "JSONB",
        "time": "TIMESTAMPTZ",
        "bytes": "BYTEA",
        "greatest": "greatest",
    },
    "sqlite": {"json": "TEXT", "time": "TEXT", "bytes": "BLOB", "greatest": "max"},
}

_FIRST = """
CREATE TABLE record (
    gateway TEXT NOT NULL, run TEXT NOT NULL, stream TEXT NOT NULL, seq BIGINT NOT NULL,
    kind TEXT NOT NULL, start_utc {time} NOT NULL, end_utc {time} NOT NULL,
    clock_state TEXT NOT NULL, clock_error_s DOUBLE PRECISION,
    flag TEXT NOT NULL, reasons {json} NOT NULL, n INTEGER NOT NULL, expected INTEGER NOT NULL,
    "values" {json} NOT NULL, config TEXT NOT NULL, received_utc {time} NOT NULL,
    PRIMARY KEY (gateway, run, stream, seq)
);
CREATE INDEX record_time ON record (gateway, stream, end_utc);

CREATE TABLE gap (
    gateway TEXT NOT NULL, run TEXT NOT NULL, stream TEXT NOT NULL,
    first BIGINT NOT NULL, seq BIGINT NOT NULL, reason TEXT NOT NULL, kind TEXT NOT NULL,
    start_utc {time}, end_utc {time}, received_utc {time} NOT NULL,
    PRIMARY KEY (gateway, run, stream, first, seq)
);

CREATE TABLE alert (
    gateway TEXT NOT NULL, run TEXT NOT NULL, seq BIGINT NOT NULL, kind TEXT NOT NULL,
    sensor TEXT, alert TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL,
    severity TEXT NOT NULL, time_utc {time} NOT NULL, since_utc {time} NOT NULL,
    clock_state TEXT NOT NULL, clock_error_s DOUBLE PRECISION,
    text_ja TEXT NOT NULL, text_en TEXT NOT NULL, "values" {json} NOT NULL,
    config TEXT NOT NULL, received_utc {time} NOT NULL,
    PRIMARY KEY (gateway, run, seq)
);
CREATE INDEX alert_time ON alert (gateway, time_utc);

CREATE TABLE rejected (
    digest TEXT PRIMARY KEY, received_utc {time} NOT NULL, topic TEXT NOT NULL,
    reason TEXT NOT NULL, size_bytes BIGINT NOT NULL, payload {bytes} NOT NULL,
    gateway TEXT, run TEXT, stream TEXT, seq BIGINT, is_held BOOLEAN NOT NULL
);
CREATE INDEX rejected_key ON rejected (gateway, run, stream, seq);

CREATE TABLE run (
    gateway TEXT NOT NULL, run TEXT NOT NULL, version TEXT, started_utc {time},
    previous TEXT, clean BOOLEAN, completed_utc {time},
    PRIMARY KEY (gateway, run)
);

CREATE TABLE stream (
    gateway TEXT NOT NULL, run TEXT NOT NULL, stream TEXT NOT NULL,
    produced BIGINT, is_final BOOLEAN NOT NULL,
    through BIGINT NOT NULL DEFAULT 0,
    touched BIGINT NOT NULL, receipted BIGINT NOT NULL DEFAULT 0,
    is_emptied BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (gateway, run, stream)
);
CREATE INDEX stream_owed ON stream (gateway) WHERE touched > receipted;
CREATE INDEX stream_kept ON stream (gateway, run) WHERE NOT is_emptied;

CREATE TABLE gateway (
    gateway TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, reason TEXT,
    heard_utc {time} NOT NULL, since_utc {time}, version TEXT, config TEXT, policy TEXT,
    label_ja TEXT, label_en TEXT, latitude DOUBLE PRECISION, longitude DOUBLE PRECISION,
    owner TEXT, licence TEXT
);

CREATE TABLE sensor (
    gateway TEXT NOT NULL, sensor TEXT NOT NULL, kind TEXT NOT NULL, driver TEXT NOT NULL,
    window_s INTEGER NOT NULL, label_ja TEXT, label_en TEXT,
    latitude DOUBLE PRECISION, longitude DOUBLE PRECISION,
    quantities {json} NOT NULL, directions {json} NOT NULL, seen_utc {time} NOT NULL,
    PRIMARY KEY (gateway, sensor)
);

CREATE TABLE birth (
    gateway TEXT NOT NULL, run TEXT NOT NULL, config TEXT NOT NULL,
    received_utc {time} NOT NULL, document {json} NOT NULL,
    PRIMARY KEY (gateway, run, config)
);

CREATE TABLE alarm (
    gateway TEXT NOT NULL, sensor TEXT NOT NULL, alert TEXT NOT NULL, id TEXT NOT NULL,
    state TEXT NOT NULL, severity TEXT NOT NULL, time_utc {time} NOT NULL,
    since_utc {time} NOT NULL, text_ja TEXT NOT NULL, text_en TEXT NOT NULL,
    "values" {json} NOT NULL, received_utc {time} NOT NULL,
    PRIMARY KEY (gateway, sensor, alert)
);

CREATE TABLE health (
    gateway TEXT PRIMARY KEY, run TEXT NOT NULL, received_utc {time} NOT NULL,
    document {json} NOT NULL
);

CREATE VIEW account AS
WITH delivered AS (
    SELECT gateway, run, stream, count(*) AS n, max(seq) AS top
    FROM record GROUP BY gateway, run, stream
    UNION ALL
    SELECT gateway, run, 'alerts', count(*), max(seq) FROM alert GROUP BY gateway, run
), named AS (
    SELECT gateway, run, stream, seq, {greatest}(first, 1 + coalesce(max(seq) OVER (
        PARTITION BY gateway, run, stream ORDER BY first, seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)) AS first
    FROM gap
), lost AS (
    SELECT gateway, run, stream, sum(seq - first + 1) AS n, max(seq) AS top
    FROM named WHERE first <= seq GROUP BY gateway, run, stream
), anyway AS (
    SELECT gateway, run, stream, count(*) AS n FROM (
        SELECT g.gateway, g.run, g.stream FROM named AS g JOIN record AS r
        ON r.gateway = g.gateway AND r.run = g.run AND r.stream = g.stream
        AND r.seq BETWEEN g.first AND g.seq
        UNION ALL
        SELECT g.gateway, g.run, g.stream FROM named AS g JOIN alert AS a
        ON a.gateway = g.gateway AND a.run = g.run AND g.stream = 'alerts'
        AND a.seq BETWEEN g.first AND g.seq
    ) AS came GROUP BY gateway, run, stream
), refused AS (
    SELECT j.gateway, j.run, j.stream, count(DISTINCT j.seq) AS n, max(j.seq) AS top
    FROM rejected AS j WHERE j.is_held
    AND NOT EXISTS (SELECT 1 FROM record AS r WHERE r.gateway = j.gateway
        AND r.run = j.run AND r.stream = j.stream AND r.seq = j.seq)
    AND NOT EXISTS (SELECT 1 FROM alert AS a WHERE a.gateway = j.gateway
        AND a.run = j.run AND j.stream = 'alerts' AND a.seq = j.seq)
    AND NOT EXISTS (SELECT 1 FROM gap AS g WHERE g.gateway = j.gateway
        AND g.run = j.run AND g.stream = j.stream AND j.seq BETWEEN g.first AND g.seq)
    GROUP BY j.gateway, j.run, j.stream
), sums AS (
    SELECT s.gateway, s.run, s.stream, s.is_final, s.through,
        {greatest}(coalesce(s.produced, 0), coalesce(d.top, 0), coalesce(l.top, 0),
            coalesce(j.top, 0)) AS produced,
        s.produced IS NOT NULL AS is_produced_told,
        coalesce(d.n, 0) AS delivered,
        CAST(coalesce(l.n, 0) AS BIGINT) - coalesce(c.n, 0) AS lost,
        coalesce(j.n, 0) AS rejected
    FROM stream AS s
    LEFT JOIN delivered AS d ON d.gateway = s.gateway AND d.run = s.run AND d.stream = s.stream
    LEFT JOIN lost AS l ON l.gateway = s.gateway AND l.run = s.run AND l.stream = s.stream
    LEFT JOIN anyway AS c ON c.gateway = s.gateway AND c.run = s.run AND c.stream = s.stream
    LEFT JOIN refused AS j ON j.gateway = s.gateway AND j.run = s.run AND j.stream = s.stream
)
SELECT gateway, run, stream, produced, is_produced_told, is_final, delivered, lost, rejected,
    produced - delivered - lost - rejected AS missing, through
FROM sums;
"""

MIGRATIONS = (_FIRST,)  # the first makes version 1

# How far each stream is held without a hole, from where it was held before. A step takes as many
# records as follow each other, at most 1,000, or a gap: never a step for each record, since a
# database that knows nothing of its tables yet may look through all of a stream for one of them.
WALK = """
WITH RECURSIVE owed AS (
    SELECT gateway, run, stream, through, touched FROM stream
    WHERE touched > receipted LIMIT {limit}
), walk (gateway, run, stream, touched, through) AS (
    SELECT gateway, run, stream, touched, through FROM owed
    UNION ALL
    SELECT w.gateway, w.run, w.stream, w.touched, coalesce(
        (SELECT max(i.seq) FROM (
            SELECT r.seq, r.seq - row_number() OVER (ORDER BY r.seq) AS base FROM record AS r
            WHERE r.gateway = w.gateway AND r.run = w.run AND r.stream = w.stream
            AND r.seq > w.through AND r.seq <= w.through + 1000
        ) AS i WHERE i.base = w.through),
        (SELECT max(i.seq) FROM (
            SELECT a.seq, a.seq - row_number() OVER (ORDER BY a.seq) AS base FROM alert AS a
            WHERE w.stream = 'alerts' AND a.gateway = w.gateway AND a.run = w.run
            AND a.seq > w.through AND a.seq <= w.through + 1000
        ) AS i WHERE i.base = w.through),
        (SELECT max(g.seq) FROM gap AS g WHERE g.gateway = w.gateway AND g.run = w.run
            AND g.stream = w.stream AND g.first <= w.through + 1 AND g.seq > w.through),
        (SELECT max(j.seq) FROM rejected AS j WHERE j.gateway = w.gateway
            AND j.run = w.run AND j.stream = w.stream AND j.seq = w.through + 1
            AND j.is_held)
    ) FROM walk AS w WHERE w.through IS NOT NULL
)
SELECT gateway, run, stream, touched, max(through) FROM walk
GROUP BY gateway, run, stream, touched
"""

TOUCH = """
INSERT INTO stream (gateway, run, stream, produced, is_final, touched) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (gateway, run, stream) DO UPDATE SET
    produced = CASE WHEN excluded.is_final THEN excluded.produced
        WHEN stream.is_final OR excluded.produced IS NULL THEN stream.produced
        ELSE {greatest}(coalesce(stream.produced, 0), excluded.produced) END,
    is_final = stream.is_final OR excluded.is_final,
    touched = stream.touched + excluded.touched
"""

RUN = """
INSERT INTO run (gateway, run, version, started_utc, previous, clean) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (gateway, run) DO UPDATE SET
    version = coalesce(excluded.version, run.version),
    started_utc = coalesce(excluded.started_utc, run.started_utc),
    previous = coalesce(excluded.previous, run.previous),
    clean = coalesce(excluded.clean, run.clean)
"""

# A run is complete when a later one has said how much it produced, and all of that is held.
COMPLETE = """
UPDATE run SET completed_utc = ? WHERE completed_utc IS NULL AND clean IS NOT NULL
AND EXISTS (SELECT 1 FROM stream AS s WHERE s.gateway = run.gateway AND s.run = run.run)
AND NOT EXISTS (SELECT 1 FROM stream AS s WHERE s.gateway = run.gateway AND s.run = run.run
    AND (s.through < s.produced OR s.touched > s.receipted))
"""

FORGETTABLE = """
SELECT s.gateway, s.run, s.stream FROM stream AS s JOIN run
ON s.gateway = run.gateway AND s.run = run.run
WHERE NOT s.is_emptied AND run.completed_utc < ? LIMIT {limit}
"""
