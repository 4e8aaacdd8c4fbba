-- SPDX-License-Identifier: Apache-2.0

-- One run of one agent. Events up to next_sequence are here; what comes again has an earlier number.
CREATE TABLE agents (
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL UNIQUE,
  agent TEXT NOT NULL,
  hostname TEXT NOT NULL,
  pid INTEGER NOT NULL,
  first_seen_us INTEGER NOT NULL,
  next_sequence INTEGER NOT NULL
);

-- What was read. Without a category or unit where the event has none.
CREATE TABLE kinds (
  id INTEGER PRIMARY KEY,
  event TEXT NOT NULL,
  category TEXT,
  unit TEXT
);
CREATE UNIQUE INDEX kinds_by_name ON kinds (event, ifnull(category, ''));

-- In the order of their arrival. A time or value above 2^63 - 1 is negative: two's complement.
CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  timestamp_us INTEGER NOT NULL,
  agent_id INTEGER NOT NULL,
  kind_id INTEGER NOT NULL,
  value INTEGER NOT NULL,
  sequence INTEGER NOT NULL
);

-- From when to when some thousand events with consecutive ids are: in place of an index over their times, which would
-- cost more than all the rest.
CREATE TABLE blocks (
  first_id INTEGER PRIMARY KEY,
  last_id INTEGER NOT NULL,
  first_us INTEGER NOT NULL,
  last_us INTEGER NOT NULL
);
CREATE INDEX blocks_by_time ON blocks (last_us);

-- Crosswise, so that SQLite goes through the events and looks the rest up, not the other way round.
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
