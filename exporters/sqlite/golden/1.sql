-- SPDX-License-Identifier: Apache-2.0

-- A database of schema version 1, as `sqlite3 FILE .dump` shows it. It never changes.
PRAGMA application_id = 1313429580;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE agents (
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL UNIQUE,
  agent TEXT NOT NULL,
  hostname TEXT NOT NULL,
  pid INTEGER NOT NULL,
  first_seen_us INTEGER NOT NULL,
  next_sequence INTEGER NOT NULL
);
INSERT INTO "agents" VALUES(1,'0123456789abcdef0123456789abcdef','decode-1','node-7',4711,1764000000500000,2);
INSERT INTO "agents" VALUES(2,'fedcba9876543210fedcba9876543210','prefill-0','node-8',4712,1764000001500000,9);
CREATE TABLE blocks (
  first_id INTEGER PRIMARY KEY,
  last_id INTEGER NOT NULL,
  first_us INTEGER NOT NULL,
  last_us INTEGER NOT NULL
);
INSERT INTO "blocks" VALUES(1,2,1764000000000042,1764000000000042);
INSERT INTO "blocks" VALUES(7,7,1764000001000000,1764000001000000);
CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  timestamp_us INTEGER NOT NULL,
  agent_id INTEGER NOT NULL,
  kind_id INTEGER NOT NULL,
  value INTEGER NOT NULL,
  sequence INTEGER NOT NULL
);
INSERT INTO "events" VALUES(1,1764000000000042,1,1,65536,0);
INSERT INTO "events" VALUES(2,1764000000000042,1,2,96,1);
INSERT INTO "events" VALUES(7,1764000001000000,2,3,1,8);
CREATE TABLE kinds (
  id INTEGER PRIMARY KEY,
  event TEXT NOT NULL,
  category TEXT,
  unit TEXT
);
INSERT INTO "kinds" VALUES(1,'agent_tx_bytes','TRANSFER','bytes');
INSERT INTO "kinds" VALUES(2,'agent_xfer_time','PERFORMANCE','microseconds');
INSERT INTO "kinds" VALUES(3,'ucx_rndv','BACKEND',NULL);
CREATE UNIQUE INDEX kinds_by_name ON kinds (event, ifnull(category, ''));
CREATE INDEX blocks_by_time ON blocks (last_us);
CREATE VIEW telemetry AS
SELECT
  events.id,
  timestamp_us,
  CASE WHEN timestamp_us >= 0 THEN
    strftime('%Y-%m-%d %H:%M:%S', timestamp_us / 1000000, 'unixepoch') || printf('.%06d', timestamp_us % 1000000)
  END AS datetime,
  agent,
  hostname,
  pid,
  event,
  category,
  value,
  unit,
  origin,
  sequence
FROM events
CROSS JOIN agents ON agents.id = agent_id
CROSS JOIN kinds ON kinds.id = kind_id;
COMMIT;
