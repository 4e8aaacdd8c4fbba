// SPDX-License-Identifier: Apache-2.0

//! What the dashboards show.
//!
//! In expressions, these stand for what is longer:
//!
//! * `<select>`: matchers for what is chosen by a dashboard's variables;
//! * `<by>`: the labels that tell its series apart;
//! * `<rate NAME>`: growth of a counter per second, by these labels; `<total NAME>`: of all series together.
//!
//! A note says what readers ask of a number: of one agent or of all, by which clock, over which time.

/// A dashboard.
pub(super) struct Dashboard {
    /// Its address in Grafana, and its file's name.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// The series that it is about: those of this metric tell which values a variable can have.
    pub(super) metric: &'static str,
    pub(super) matching: &'static str,
    /// Labels that can be chosen, besides the job.
    pub(super) variables: &'static [&'static str],
    /// The labels that tell its series apart.
    pub(super) by: &'static str,
    /// How series are called.
    pub(super) legend: &'static str,
    pub(super) rows: &'static [(&'static str, &'static [Panel])],
}

/// A panel.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What the metrics' own descriptions do not say.
    pub(super) note: &'static str,
    pub(super) shows: Shows,
    /// In columns, of which there are 24.
    pub(super) width: u8,
}

/// What a panel shows.
pub(super) enum Shows {
    /// Growth of counters per second, each with a word for its legend.
    Rates(&'static [(&'static str, &'static str)]),
    /// Growth of counters over the time that is looked at, as one number.
    Growth(&'static [(&'static str, &'static str)]),
    /// Gauges, each with a word for its legend.
    Values(&'static [(&'static str, &'static str)]),
    /// Mean and quantiles of a histogram.
    Quantiles(&'static str),
    /// The buckets of a histogram over time.
    Heatmap(&'static str),
    /// Expressions, each with a word for its legend, or all of it, and their unit.
    Lines(&'static [(&'static str, &'static str)], &'static str),
    /// One number, and its unit.
    Number(&'static str, &'static str),
}

use Shows::*;

const fn panel(title: &'static str, width: u8, note: &'static str, shows: Shows) -> Panel {
    Panel { title, note, shows, width }
}

/// All of them. Every metric is in the first.
pub(super) static DASHBOARDS: [Dashboard; 2] = [
    Dashboard {
        uid: "nixl-overview",
        title: "NIXL agents",
        description: "What NIXL agents transfer, how long it takes, what goes wrong, and whether their telemetry is whole.",
        metric: "agent_tx_bytes_total",
        matching: "",
        variables: &["agent_name"],
        by: "agent_name",
        legend: "{{agent_name}}",
        rows: &[
            ("At a glance", GLANCE),
            ("Throughput", THROUGHPUT),
            ("Time", TIME),
            ("Errors", ERRORS),
            ("Memory", MEMORY),
            ("Telemetry itself", TELEMETRY),
        ],
    },
    Dashboard {
        uid: "nixl-ranks",
        title: "NIXL ranks of a node",
        description: "The ranks of a node side by side, as prometheus_mp serves them: which of them is slower than the others?",
        metric: "agent_tx_bytes_total",
        matching: "local_rank!=\"\"",
        variables: &["hostname", "local_rank"],
        by: "hostname, local_rank, pid",
        legend: "{{hostname}} rank {{local_rank}} ({{pid}})",
        rows: &[
            ("Balance", RANK_BALANCE),
            ("Throughput", RANK_THROUGHPUT),
            ("Time", RANK_TIME),
            ("Errors and losses", RANK_ERRORS),
        ],
    },
];

const GLANCE: &[Panel] = &[
    panel("Agents", 4, "Agents whose exporter answered.", Number("count(agent_tx_bytes_total{<select>})", "short")),
    panel(
        "Throughput",
        4,
        "Of all agents together, by wall clock. Only who begins a transfer counts it, so that each byte is there once.",
        Number("<total agent_tx_bytes_total> + <total agent_rx_bytes_total>", "binBps"),
    ),
    panel(
        "Requests",
        4,
        "Completed requests of all agents together.",
        Number("<total agent_tx_requests_num_total> + <total agent_rx_requests_num_total>", "reqps"),
    ),
    panel("Errors", 4, "Of all agents, in the time that is looked at.", Growth(&[("agent_errors_total", "errors")])),
    panel(
        "Events dropped",
        4,
        "Of all agents, in the time that is looked at. Above zero, single events are missing.",
        Growth(&[("agent_telemetry_events_dropped_total", "dropped")]),
    ),
    panel(
        "Exporters that do not answer",
        4,
        "Targets of the job that could not be scraped. One whose process runs without NIXL_TELEMETRY_ENABLE=y is among them.",
        Number("sum(up{job=~\"$job\"} == bool 0)", "short"),
    ),
];

const THROUGHPUT: &[Panel] = &[
    panel(
        "Throughput by wall clock",
        12,
        "Bytes of completed transfers over the time that went by, idle or not. Sent is what the agent wrote, received what it read; what its peers write or read is theirs.",
        Rates(&[("agent_tx_bytes_total", "sent"), ("agent_rx_bytes_total", "received")]),
    ),
    panel(
        "Throughput by busy time",
        12,
        "Bytes over the time their transfers took, which is what a single transfer gets. Times how many are under way, it is the throughput by wall clock.",
        Lines(
            &[("1e6 * (<rate agent_tx_bytes_total> + <rate agent_rx_bytes_total>) / <rate agent_xfer_time_total>", "")],
            "binBps",
        ),
    ),
    panel(
        "Requests",
        12,
        "Completed ones. A request that was posted and never ends is in no metric.",
        Rates(&[("agent_tx_requests_num_total", "sent"), ("agent_rx_requests_num_total", "received")]),
    ),
    panel(
        "Transfers under way",
        12,
        "How many there were at once, on average: the time they took over the time that went by. Posting is the part of it that the backend's call took.",
        Lines(
            &[
                ("<rate agent_xfer_time_total> / 1e6", "under way"),
                ("<rate agent_xfer_post_time_total> / 1e6", "being posted"),
            ],
            "short",
        ),
    ),
];

const TIME: &[Panel] = &[
    panel(
        "Transfer time",
        12,
        "From posting until the agent was asked for the status and saw the end. A quantile is right to the bucket it lies in.",
        Quantiles("agent_xfer_time_us"),
    ),
    panel("Post time", 12, "Until the backend's call returned.", Quantiles("agent_xfer_post_time_us")),
    panel("Transfer time, all transfers", 12, "How many transfers each bucket got.", Heatmap("agent_xfer_time_us")),
    panel("Post time, all transfers", 12, "How many transfers each bucket got.", Heatmap("agent_xfer_post_time_us")),
    panel(
        "Time of the last request",
        12,
        "One sample out of all there were between two scrapes.",
        Lines(
            &[
                ("max by (<by>) (agent_xfer_time{<select>})", "transfer"),
                ("max by (<by>) (agent_xfer_post_time{<select>})", "post"),
            ],
            "µs",
        ),
    ),
    panel(
        "Size of the last request",
        12,
        "One sample out of all there were between two scrapes.",
        Values(&[("agent_tx_last_bytes", "sent"), ("agent_rx_last_bytes", "received")]),
    ),
];

const ERRORS: &[Panel] = &[
    panel(
        "Errors by status",
        12,
        "Of all agents. NIXL itself counts few disconnects: those it finds when it posts, or is asked for the status, are in no metric.",
        Lines(&[("sum by (status) (rate(agent_errors_total{<select>}[$__rate_interval]))", "{{status}}")], "cps"),
    ),
    panel(
        "Share of errors",
        12,
        "Errors over all that ended, well or not.",
        Lines(
            &[(
                "<rate agent_errors_total> / (<rate agent_errors_total> + <rate agent_tx_requests_num_total> + <rate agent_rx_requests_num_total>)",
                "",
            )],
            "percentunit",
        ),
    ),
    panel(
        "Events of backends",
        24,
        "NIXL up to 1.0 has them. What the values mean is the backend's to say.",
        Lines(
            &[(
                "sum by (<by>, event) (rate(agent_backend_events_total{<select>}[$__rate_interval]))",
                "{{agent_name}} {{event}}",
            )],
            "short",
        ),
    ),
];

const MEMORY: &[Panel] = &[
    panel(
        "Memory registered",
        12,
        "What was registered less what was deregistered since the agent began. A deregistration just before its end may be missing.",
        Lines(
            &[(
                "sum by (<by>) (agent_memory_registered_total{<select>}) - sum by (<by>) (agent_memory_deregistered_total{<select>})",
                "",
            )],
            "bytes",
        ),
    ),
    panel(
        "Last registration",
        12,
        "",
        Values(&[
            ("agent_memory_registered_last_bytes", "registered"),
            ("agent_memory_deregistered_last_bytes", "deregistered"),
        ]),
    ),
];

const TELEMETRY: &[Panel] = &[
    panel(
        "Events taken",
        8,
        "Four events to a transfer.",
        Rates(&[
            ("nixl_telemetry_exporter_events_total", "events"),
            ("nixl_telemetry_exporter_batches_total", "batches"),
        ]),
    ),
    panel(
        "Losses",
        8,
        "By the agent, for want of room; by the exporter, which could not deliver, or has no room for another name.",
        Rates(&[
            ("agent_telemetry_events_dropped_total", "dropped by the agent"),
            ("nixl_telemetry_exporter_events_failed_total", "not delivered"),
            ("nixl_telemetry_exporter_events_dropped_total", "names beyond those there is room for"),
        ]),
    ),
    panel("Events that wait", 8, "", Values(&[("nixl_telemetry_exporter_queue_events", "")])),
    panel(
        "Since the last delivery",
        12,
        "Grows as long as an agent is idle, too.",
        Lines(
            &[("time() - max by (<by>) (nixl_telemetry_exporter_last_success_timestamp_seconds{<select>} > 0)", "")],
            "s",
        ),
    ),
    panel(
        "Exporters that answer",
        12,
        "1 if the last scrape of a target succeeded.",
        Lines(&[("min by (job, instance) (up{job=~\"$job\"})", "{{job}} {{instance}}")], "short"),
    ),
];

const RANK_BALANCE: &[Panel] = &[
    panel(
        "Ranks",
        6,
        "Processes that are shown.",
        Number("count(count by (<by>) (agent_tx_bytes_total{<select>}))", "short"),
    ),
    panel(
        "Bytes, the busiest rank to the mean",
        9,
        "1 if all move the same. Ranks of one model should.",
        Number(
            "max(<rate agent_tx_bytes_total> + <rate agent_rx_bytes_total>) / avg(<rate agent_tx_bytes_total> + <rate agent_rx_bytes_total>)",
            "short",
        ),
    ),
    panel(
        "Transfer time, the slowest rank to the mean",
        9,
        "1 if transfers of all ranks take the same time on average. A rank that is idle does not count.",
        Number(
            "max(<rate agent_xfer_time_us_sum> / <rate agent_xfer_time_us_count>) / (<total agent_xfer_time_us_sum> / <total agent_xfer_time_us_count>)",
            "short",
        ),
    ),
];

const RANK_THROUGHPUT: &[Panel] = &[
    panel("Sent", 12, "By wall clock.", Rates(&[("agent_tx_bytes_total", "")])),
    panel("Received", 12, "By wall clock.", Rates(&[("agent_rx_bytes_total", "")])),
    panel(
        "Requests",
        12,
        "Completed ones.",
        Rates(&[("agent_tx_requests_num_total", "sent"), ("agent_rx_requests_num_total", "received")]),
    ),
    panel(
        "Memory registered",
        12,
        "What was registered less what was deregistered.",
        Lines(
            &[(
                "sum by (<by>) (agent_memory_registered_total{<select>}) - sum by (<by>) (agent_memory_deregistered_total{<select>})",
                "",
            )],
            "bytes",
        ),
    ),
];

const RANK_TIME: &[Panel] = &[
    panel(
        "Transfer time, 99 of 100",
        12,
        "A quantile is right to the bucket it lies in.",
        Lines(
            &[(
                "histogram_quantile(0.99, sum by (le, <by>) (rate(agent_xfer_time_us_bucket{<select>}[$__rate_interval])))",
                "",
            )],
            "µs",
        ),
    ),
    panel(
        "Post time, 99 of 100",
        12,
        "A quantile is right to the bucket it lies in.",
        Lines(
            &[(
                "histogram_quantile(0.99, sum by (le, <by>) (rate(agent_xfer_post_time_us_bucket{<select>}[$__rate_interval])))",
                "",
            )],
            "µs",
        ),
    ),
];

const RANK_ERRORS: &[Panel] = &[
    panel("Errors", 12, "Of every status.", Rates(&[("agent_errors_total", "")])),
    panel(
        "Losses",
        12,
        "Single events that are missing.",
        Rates(&[
            ("agent_telemetry_events_dropped_total", "dropped by the agent"),
            ("nixl_telemetry_exporter_events_failed_total", "not delivered"),
        ]),
    ),
];
