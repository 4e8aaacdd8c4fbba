// SPDX-License-Identifier: Apache-2.0

//! Four agents of an inference server, for tests and for the document that shows the screen.
//!
//! The figures are made up, the way from events to the screen is the real one: every event goes through the model, at the
//! time at which it would.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nixl_telemetry_event::{Event, Kind, Layout};
use nixl_telemetry_ring::{Header, Lost, Shape};

use crate::top::model::{Model, When};
use crate::top::snapshot::Snapshot;

/// What an agent does.
struct Agent {
    name: &'static str,
    is_reader: bool,
    bytes: u64,
    /// Transfers in a tenth of a second, and how much more or less at most.
    transfers: (u64, u64),
    /// Microseconds of a transfer, and how much more at most, seldom.
    us: (u64, u64),
    /// Where its waves begin.
    phase: u32,
    unread: u64,
}

const AGENTS: [Agent; 4] = [
    Agent {
        name: "prefill-0",
        is_reader: false,
        bytes: 2 << 20,
        transfers: (60, 50),
        us: (310, 900),
        phase: 0,
        unread: 40,
    },
    Agent {
        name: "decode-0",
        is_reader: true,
        bytes: 2 << 20,
        transfers: (31, 25),
        us: (420, 1600),
        phase: 290,
        unread: 12,
    },
    Agent {
        name: "decode-1",
        is_reader: true,
        bytes: 2 << 20,
        transfers: (27, 25),
        us: (455, 2900),
        phase: 220,
        unread: 0,
    },
    Agent {
        name: "kv-store",
        is_reader: false,
        bytes: 32 << 20,
        transfers: (1, 1),
        us: (11_000, 48_000),
        phase: 60,
        unread: 4095,
    },
];

/// Numbers that look like chance, and are always the same.
struct Dice(u64);

impl Dice {
    /// From 0 to below 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// From 0 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        whole(self.roll() * (most + 1) as f64)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is behind the point is not wanted, and none is that large")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// From 0 to 1 and back, once in a period.
fn wave(tick: u32, period: u32) -> f64 {
    let tick = tick % period;
    f64::from(2 * tick.min(period - tick)) / f64::from(period)
}

/// The screen of [`AGENTS`] after 75 seconds, of which the last refresh was one.
pub(crate) fn snapshot() -> Snapshot {
    const TENTH: Duration = Duration::from_millis(100);
    let (mut model, mut dice) = (Model::default(), Dice(4));
    let path = |agent: &Agent| Path::new("/tmp/telemetry").join(agent.name);
    for agent in &AGENTS {
        model.came(&path(agent), agent.name, Duration::ZERO);
    }
    model.events(&path(&AGENTS[2]), [Event::new(Kind::ERR_BACKEND, 1); 2], When::Before, Duration::ZERO);
    for agent in &AGENTS {
        let registered = [Event::new(Kind::MEMORY_REGISTERED, 5 << 30), Event::new(Kind::MEMORY_REGISTERED, 64 << 20)];
        model.events(&path(agent), registered, When::Before, Duration::ZERO);
    }
    for tick in 1..=750_u32 {
        let now = TENTH * tick;
        if tick % 10 == 0 {
            refresh(&mut model, &path, now);
        }
        for agent in &AGENTS {
            // Requests come in waves; the last agent's ring is full at some time.
            let load = 0.2 + 0.6 * wave(tick + agent.phase, 480) + 0.2 * wave(tick + agent.phase, 90);
            let is_full = agent.unread == 4095 && tick > 520;
            let (least, more) = agent.transfers;
            let transfers = if is_full { 0 } else { whole(load * (least + dice.up_to(more)) as f64) };
            for _ in 0..transfers {
                model.events(&path(agent), transfer(agent, &mut dice), When::Now, now);
            }
        }
        if [250, 251, 590].contains(&tick) {
            model.events(&path(&AGENTS[2]), [Event::new(Kind::ERR_NOT_FOUND, 1)], When::Now, now);
        }
        if tick == 400 {
            model.events(&path(&AGENTS[1]), [Event::new(Kind::ERR_BACKEND, 1)], When::Now, now);
            model.events(&path(&AGENTS[0]), [Event::new(Kind::TELEMETRY_EVENTS_DROPPED, 128)], When::Now, now);
            model.lost(&path(&AGENTS[1]), Lost { events: 36, or_more: true });
        }
    }
    Snapshot {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_794_121),
        rows: refresh(&mut model, &path, TENTH * 750),
        problems: Vec::new(),
        watched: "/tmp/telemetry".to_owned(),
        foreign: 0,
    }
}

/// The four events that NIXL has for a transfer.
fn transfer(agent: &Agent, dice: &mut Dice) -> [Event<'static>; 4] {
    let seldom = (0..3).fold(dice.roll(), |number, _| number * number);
    let us = agent.us.0 + whole(seldom * agent.us.1 as f64) + dice.up_to(agent.us.0 / 5);
    let (bytes, requests) =
        if agent.is_reader { (Kind::RX_BYTES, Kind::RX_REQUESTS_NUM) } else { (Kind::TX_BYTES, Kind::TX_REQUESTS_NUM) };
    [
        Event::new(Kind::XFER_POST_TIME, 4 + dice.up_to(9) + us / 200),
        Event::new(Kind::XFER_TIME, us),
        Event::new(bytes, agent.bytes),
        Event::new(requests, 1),
    ]
}

fn refresh(model: &mut Model, path: &impl Fn(&Agent) -> PathBuf, now: Duration) -> Vec<crate::top::model::Row> {
    for agent in &AGENTS {
        let header = Header {
            write_pos: agent.unread,
            read_pos: 0,
            version: 4,
            expected_version: 4,
            capacity: 4096,
            mask: 4095,
        };
        model.ring(&path(agent), Shape { version: 4, layout: Layout::L16, capacity: 4096 }, &header);
    }
    model.refresh(now, Duration::from_secs(1))
}
