"""The lab cloud's tables."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS gateways(
    id TEXT PRIMARY KEY, state TEXT NOT NULL DEFAULT 'unknown', agent TEXT NOT NULL DEFAULT '',
    session TEXT NOT NULL DEFAULT '', since_ms INTEGER NOT NULL DEFAULT 0, seen_ms INTEGER NOT NULL,
    hostile INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported(
    gateway TEXT, instance TEXT, body TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY(gateway, instance)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS streams(
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, session TEXT NOT NULL, priority TEXT NOT NULL, stream TEXT NOT NULL,
    batches INTEGER NOT NULL DEFAULT 0, duplicates INTEGER NOT NULL DEFAULT 0,
    samples INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0,
    UNIQUE(gateway, session, priority, stream));
CREATE TABLE IF NOT EXISTS intervals(
    stream INTEGER, first INTEGER, last INTEGER NOT NULL, PRIMARY KEY(stream, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told(
    gateway TEXT, session TEXT, priority TEXT, stream TEXT, first INTEGER, last INTEGER NOT NULL,
    records INTEGER NOT NULL, samples INTEGER NOT NULL,
    PRIMARY KEY(gateway, session, priority, stream, first, last)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items(
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, point TEXT NOT NULL, t_ms INTEGER, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS items_by_point ON items(gateway, point, id);
CREATE TABLE IF NOT EXISTS events(
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, type TEXT NOT NULL, t_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_gateway ON events(gateway, id);
CREATE TABLE IF NOT EXISTS alarms(
    gateway TEXT, key TEXT, state TEXT NOT NULL, severity TEXT NOT NULL, code TEXT NOT NULL, source TEXT NOT NULL,
    message TEXT NOT NULL, t_ms INTEGER NOT NULL, PRIMARY KEY(gateway, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commands(
    gateway TEXT, id TEXT, type TEXT NOT NULL, ts_ms INTEGER NOT NULL, ttl_s REAL NOT NULL,
    PRIMARY KEY(gateway, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies(
    gateway TEXT, id TEXT, code INTEGER NOT NULL, job TEXT NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY(gateway, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_states(
    n INTEGER PRIMARY KEY, gateway TEXT NOT NULL, job TEXT NOT NULL, ts_ms INTEGER NOT NULL, state TEXT NOT NULL,
    progress INTEGER NOT NULL, command TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE(gateway, job, ts_ms, state, progress));
CREATE TABLE IF NOT EXISTS desired(
    gateway TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feed(
    id INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL, kind TEXT NOT NULL, at_ms INTEGER NOT NULL,
    body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS feed_by_gateway ON feed(gateway, id);
CREATE TABLE IF NOT EXISTS hostile(
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, why TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL);
"""

# How many rows stay: the newest. What is counted (streams, intervals) is never trimmed.
KEEP_ROWS = {"items": 2_000_000, "events": 200_000, "feed": 50_000, "hostile": 1_000}
