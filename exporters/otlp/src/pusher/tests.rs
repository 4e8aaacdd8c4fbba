// SPDX-License-Identifier: Apache-2.0

use nixl_telemetry_sdk::metrics::{Publisher, Tally};
use nixl_telemetry_sdk::worker::Call;
use nixl_telemetry_sdk::{Event, Kind, Settings};

use super::job::MOST_LEFT;
use super::*;
use crate::receiver::{Reaction, Receiver};

/// A worker's job without the worker, and its agents.
struct Scene {
    receiver: Receiver,
    job: Job,
}

/// An agent that sends.
struct Sender {
    publisher: Publisher,
    buckets: Arc<Buckets>,
    member: Arc<Member>,
}

const OK: Reaction = Reaction::Answer(200, "", "");

fn config(receiver: &Receiver, settings: &[(&str, &str)]) -> Config {
    let endpoint = format!("http://{}", receiver.address());
    let common = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT", "30000"),
    ];
    Config::new(&Settings::from_pairs(common.iter().chain(settings).copied()), "vm").unwrap().unwrap()
}

fn labels(agent: &str) -> Labels {
    Labels::sorted([("agent_name".to_owned(), agent.to_owned())]).unwrap()
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let receiver = Receiver::start();
        let config = config(&receiver, settings);
        let job = Job::new(&config, &Arc::default(), &Transport::new(&config).unwrap());
        Self { receiver, job }
    }

    fn join(&self, agent: &str) -> Sender {
        let buckets = Arc::<Buckets>::default();
        let (publisher, live) = Live::new(Arc::clone(&buckets), now_us());
        let member = self.job.crew.add(&Agent::new(agent), labels(agent), live, Arc::clone(&buckets));
        Sender { publisher, buckets, member }
    }

    /// Runs the job after this happens to its connection.
    fn run(&mut self, call: Call, reaction: Reaction) -> Duration {
        self.receiver.expect([reaction]);
        self.job.run(call)
    }

    fn total(&self, series: &str) -> Option<i64> {
        self.receiver.totals().get(series).copied()
    }
}

impl Sender {
    /// Three events.
    fn send(&mut self, bytes: u64) {
        let mut tally = Tally::new(Arc::clone(&self.buckets));
        tally.fold(&Event::new(Kind::TX_BYTES, bytes));
        tally.fold(&Event::new(Kind::XFER_TIME, bytes));
        tally.fold(&Event::backend("retries", 1));
        self.publisher.publish(&mut tally, now_us());
    }

    fn leave(self) {
        self.member.left_us.store(now_us(), Ordering::Release);
    }
}

/// Everything that can happen to a request, with events before and after each.
#[test]
fn nothing_is_lost_and_nothing_counted_twice() {
    let reactions = || {
        [
            OK,
            Reaction::Answer(503, "", "busy"),
            Reaction::Reset,
            Reaction::Nonsense,
            Reaction::Hang,
            OK,
            Reaction::Answer(429, "Retry-After: 30\r\n", ""),
            Reaction::Answer(400, "", ""),
            Reaction::Answer(301, "Location: /elsewhere\r\n", ""),
            Reaction::Answer(200, "Content-Type: application/json\r\n", "nonsense"),
        ]
    };
    for (temporality, histograms) in [
        ("cumulative", "explicit_bucket_histogram"),
        ("delta", "base2_exponential_bucket_histogram"),
        ("lowmemory", "explicit_bucket_histogram"),
    ] {
        let mut scene = Scene::new(&[
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", histograms),
        ]);
        let (mut a, mut b) = (scene.join("a"), scene.join("b"));
        for (i, reaction) in (1..).zip(reactions()) {
            a.send(i);
            b.send(1000);
            // Nobody else is cut short, on however busy a machine.
            let limit = if matches!(reaction, Reaction::Hang) { 1000 } else { 30_000 };
            scene.job.config.timeout = Duration::from_millis(limit);
            scene.run(Call::Due, reaction);
        }
        let expected = [
            ("agent_tx_bytes_total{agent_name=a}", 55),
            ("agent_tx_bytes_total{agent_name=b}", 10_000),
            ("agent_xfer_time_total{agent_name=a}", 55),
            ("agent_xfer_time_us{agent_name=a}", 10),
            ("agent_backend_events_total{agent_name=b,event=retries}", 10),
            ("nixl_telemetry_exporter_events_total{agent_name=a}", 30),
            ("nixl_telemetry_exporter_batches_total{agent_name=b}", 10),
        ];
        for (series, total) in expected {
            assert_eq!(scene.total(series), Some(total), "{series}, {temporality}");
        }
        assert_eq!((a.member.missing(), b.member.missing()), (0, 0));
        // The redirection was not followed.
        assert!(scene.receiver.requests().iter().all(|request| request.head.starts_with("POST /v1/metrics ")));
        assert_eq!(scene.receiver.requests().len(), 9, "all but the one that was reset have arrived");
    }
}

#[test]
fn a_receiver_may_be_gone_for_a_while() {
    for temporality in ["cumulative", "delta"] {
        let mut scene = Scene::new(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)]);
        let mut sender = scene.join("a");
        sender.send(1);
        scene.run(Call::Due, OK);
        let (address, before) = (scene.receiver.address(), scene.receiver.totals());
        drop(scene.receiver);
        for _ in 0..3 {
            sender.send(10);
            // Nobody listens.
            let wait = scene.job.run(Call::Due);
            assert!((2500..17_000).contains(&wait.as_millis()), "{wait:?}");
        }
        assert_eq!(sender.member.missing(), 9);
        scene.receiver = Receiver::listen(address, None);
        sender.send(100);
        scene.run(Call::Due, OK);
        let series = "agent_tx_bytes_total{agent_name=a}";
        let remembered = if temporality == "delta" { before[series] } else { 0 };
        assert_eq!(scene.total(series), Some(131 - remembered), "{temporality}");
        assert_eq!(sender.member.missing(), 0);
    }
}

#[test]
fn how_long_it_waits_depends_on_the_answer() {
    let mut scene = Scene::new(&[("OTEL_METRIC_EXPORT_INTERVAL", "3600000")]);
    let _sender = scene.join("a");
    let hour = 3_590..=3_600;
    assert!(hour.contains(&scene.run(Call::Due, OK).as_secs()));
    assert!(hour.contains(&scene.run(Call::Due, Reaction::Answer(401, "", "")).as_secs()));
    let soon = scene.run(Call::Due, Reaction::Answer(502, "", ""));
    assert!((2500..=7500).contains(&soon.as_millis()), "{soon:?}");
    let said = scene.run(Call::Due, Reaction::Answer(429, "Retry-After: 100\r\n", ""));
    assert_eq!(said.as_secs(), 100);
    // Until then it is left alone, whoever asks.
    let requests = scene.receiver.requests().len();
    assert!((90..=100).contains(&scene.job.run(Call::Asked).as_secs()));
    assert_eq!(scene.receiver.requests().len(), requests);
    // Well again, it has forgotten.
    assert!(hour.contains(&scene.run(Call::Due, OK).as_secs()));
    assert!(hour.contains(&scene.run(Call::Asked, OK).as_secs()));
    let again = scene.run(Call::Due, Reaction::Answer(504, "", ""));
    assert!((2500..=7500).contains(&again.as_millis()), "{again:?}");
    // Who wants to be left alone for longer than tries are worth it is left alone.
    let long = scene.run(Call::Due, Reaction::Answer(503, "Retry-After: 7200\r\n", ""));
    assert_eq!(long.as_secs(), 3600, "an hour is enough");
}

#[test]
fn what_a_receiver_rejects_of_an_export_is_not_sent_again() {
    let mut scene = Scene::new(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")]);
    let mut sender = scene.join("a");
    for bytes in [1, 10] {
        sender.send(bytes);
        let body = r#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}"#;
        scene.run(Call::Due, Reaction::Answer(200, "Content-Type: application/json\r\n", body));
    }
    assert_eq!((scene.job.rejected, scene.total("agent_tx_bytes_total{agent_name=a}")), (4, Some(11)));
}

#[test]
fn agents_that_have_ended_stay_until_they_are_delivered() {
    let mut scene = Scene::new(&[]);
    let (mut gone, mut here) = (scene.join("a"), scene.join("b"));
    gone.send(1);
    here.send(2);
    scene.run(Call::Due, Reaction::Answer(503, "", ""));
    gone.send(3);
    gone.leave();
    // Its successor of the same name is another series, which begins where the first has ended.
    let mut next = scene.join("a");
    next.send(5);
    scene.run(Call::Due, OK);
    let body = scene.receiver.requests().pop().unwrap().body;
    let export: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let points = export["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"].as_array().unwrap();
    let values: Vec<&str> = points.iter().map(|point| point["asInt"].as_str().unwrap()).collect();
    assert_eq!(values, ["4", "2", "5"]);
    assert_eq!(points[0]["attributes"], points[2]["attributes"]);
    assert!(points[0]["timeUnixNano"].as_str() <= points[2]["startTimeUnixNano"].as_str(), "{points:?}");
    // What has been delivered is done with.
    assert_eq!((scene.job.series.len(), scene.job.crew.members().len()), (2, 2));
    // Those nobody wants do not pile up, nor stay for longer than tries are worth it.
    for _ in 0..MOST_LEFT + 3 {
        let mut sender = scene.join("c");
        sender.send(1);
        sender.leave();
    }
    scene.run(Call::Due, Reaction::Answer(503, "", ""));
    assert_eq!(scene.job.series.len(), 2 + MOST_LEFT);
    scene.run(Call::Due, Reaction::Answer(503, "Retry-After: 600\r\n", ""));
    assert_eq!((scene.job.series.len(), scene.job.crew.members().len()), (2, 2));
}

#[test]
fn twins_are_told_apart() {
    let mut scene = Scene::new(&[]);
    let (mut first, mut second) = (scene.join("twin"), scene.join("twin"));
    first.send(1);
    second.send(2);
    scene.run(Call::Due, OK);
    assert_eq!(scene.total("agent_tx_bytes_total{agent_name=twin}"), Some(1));
    let instance = &second.member.labels[1];
    assert_eq!(instance.0, "agent_instance");
    assert_eq!(scene.total(&format!("agent_tx_bytes_total{{agent_name=twin,agent_instance={}}}", instance.1)), Some(2));
}

#[test]
fn the_exporter_tells_of_itself() {
    let mut scene = Scene::new(&[]);
    let mut sender = scene.join("a");
    let gauges = |scene: &Scene| {
        let request = scene.receiver.requests().pop().unwrap();
        let export: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let metrics = export["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().clone();
        let point = |name: &str| {
            metrics.iter().find(|metric| metric["name"] == name).unwrap()["gauge"]["dataPoints"][0].clone()
        };
        let queued = point("nixl_telemetry_exporter_queue_events")["asInt"].as_str().unwrap().to_owned();
        (queued, point("nixl_telemetry_exporter_last_success_timestamp_seconds")["asDouble"].as_f64().unwrap())
    };
    sender.send(1);
    let started = now_us() as f64 / 1e6;
    scene.run(Call::Due, Reaction::Answer(503, "", ""));
    assert_eq!(gauges(&scene), ("3".into(), 0.0));
    sender.send(1);
    scene.run(Call::Due, OK);
    assert_eq!(gauges(&scene), ("6".into(), 0.0));
    scene.run(Call::Due, OK);
    let (queued, last_success) = gauges(&scene);
    assert_eq!(queued, "0");
    assert!((started..=now_us() as f64 / 1e6).contains(&last_success), "{last_success}");
}

fn member(receiver: &Receiver, agent: &str, settings: &[(&str, &str)]) -> (Membership, Publisher) {
    let buckets = Arc::<Buckets>::default();
    let (publisher, live) = Live::new(Arc::clone(&buckets), now_us());
    let config = config(receiver, settings);
    (Membership::join(config, &Agent::new(agent), labels(agent), live, buckets).unwrap(), publisher)
}

#[test]
fn the_end_tells_what_is_lost() {
    let receiver = Receiver::start();
    receiver.expect([Reaction::Hang]);
    let limits = [
        ("NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT", "300"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "3600000"),
    ];
    let (mut membership, mut publisher) = member(&receiver, "a", &limits);
    let mut tally = Tally::new(Arc::default());
    tally.fold(&Event::new(Kind::TX_BYTES, 1));
    tally.fold(&Event::new(Kind::TX_BYTES, 1));
    publisher.publish(&mut tally, now_us());
    assert_eq!(
        membership.leave().unwrap_err().to_string(),
        format!("2 events are lost: http://{}/v1/metrics has not accepted them", receiver.address())
    );
    let soon = Instant::now() + Duration::from_secs(60);
    assert!(membership.pusher.worker.end(soon), "the request that hangs was cut, and the thread has ended");
    assert!(membership.leave().is_ok(), "once");
}

#[test]
fn agents_that_push_alike_share_a_worker() {
    let receiver = Receiver::start();
    let (mut a, mut publisher) = member(&receiver, "a", &[]);
    let (mut b, _) = member(&receiver, "b", &[]);
    let (mut other, _) = member(&receiver, "c", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "9000")]);
    assert!(Arc::ptr_eq(&a.pusher, &b.pusher) && !Arc::ptr_eq(&a.pusher, &other.pusher));
    other.leave().unwrap();
    b.leave().unwrap();
    let mut tally = Tally::new(Arc::default());
    tally.fold(&Event::new(Kind::TX_BYTES, 7));
    publisher.publish(&mut tally, now_us());
    // In between the receiver has other things to do.
    receiver.expect([Reaction::Answer(503, "", ""), Reaction::Answer(429, "Retry-After: 1\r\n", ""), OK]);
    a.leave().unwrap();
    let totals = receiver.totals();
    assert_eq!((totals["agent_tx_bytes_total{agent_name=a}"], totals["agent_tx_bytes_total{agent_name=b}"]), (7, 0));
    assert_eq!(receiver.requests().len(), 5);
    // The next agent begins anew.
    let (mut late, _) = member(&receiver, "a", &[]);
    assert!(!Arc::ptr_eq(&a.pusher, &late.pusher));
    late.leave().unwrap();
    assert_eq!(receiver.requests().len(), 6);
}
