//! A summary with quantiles, as ZooKeeper's dashboards ask for them (`readlatency{quantile="0.99"}`); the
//! `prometheus` crate has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType, Quantile, Summary as SummaryValue};

use crate::server::stats::MonitorValue;

/// The quantiles are of the last five to ten minutes, as Prometheus' own client libraries compute them: two windows
/// of this length, of which the older is dropped.
const WINDOW: Duration = Duration::from_secs(300);

/// Within each power of two, so many buckets: a quantile is off by a thirty-second part at most.
const SUB_BUCKETS: usize = 1 << SUB_BITS;
const SUB_BITS: u32 = 4;

/// Values below [`SUB_BUCKETS`] have a bucket each; above, every power of two up to 2^63 has [`SUB_BUCKETS`].
const BUCKETS: usize = SUB_BUCKETS * (64 - SUB_BITS as usize + 1);

/// ZooKeeper's Prometheus provider shows these of a latency (`DetailLevel.ADVANCED`)…
const LATENCY_QUANTILES: &[f64] = &[0.5, 0.9, 0.99];
/// …and this one of a count (`DetailLevel.BASIC`).
const COUNT_QUANTILES: &[f64] = &[0.5];

/// `mntr` shows these of a latency (`AvgMinMaxPercentileCounter`).
const MONITOR_QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Counts values and estimates their quantiles. Clones share their numbers.
#[derive(Debug, Clone)]
pub struct Summary(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    desc: Desc,
    quantiles: &'static [f64],
    /// What is counted for each unit shown: 1,000 where milliseconds are shown and microseconds counted.
    scale: f64,
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    current: Buckets,
    previous: Buckets,
    rotated: Mutex<Instant>,
}

type Buckets = Box<[AtomicU64]>;

impl Summary {
    /// A latency: recorded as a duration, shown in milliseconds.
    ///
    /// # Errors
    /// The name is none that Prometheus allows.
    pub fn milliseconds(name: &str, help: &str) -> prometheus::Result<Self> {
        Summary::new(name, help, LATENCY_QUANTILES, 1000.0)
    }

    /// A plain number.
    ///
    /// # Errors
    /// The name is none that Prometheus allows.
    pub fn count(name: &str, help: &str) -> prometheus::Result<Self> {
        Summary::new(name, help, COUNT_QUANTILES, 1.0)
    }

    fn new(name: &str, help: &str, quantiles: &'static [f64], scale: f64) -> prometheus::Result<Self> {
        let buckets = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Ok(Summary(Arc::new(Inner {
            desc: Desc::new(name.to_owned(), help.to_owned(), Vec::new(), Default::default())?,
            quantiles,
            scale,
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            current: buckets(),
            previous: buckets(),
            rotated: Mutex::new(Instant::now()),
        })))
    }

    /// One more value.
    pub fn record(&self, value: u64) {
        let inner = &*self.0;
        inner.count.fetch_add(1, Relaxed);
        inner.sum.fetch_add(value, Relaxed);
        inner.min.fetch_min(value, Relaxed);
        inner.max.fetch_max(value, Relaxed);
        if let Some(bucket) = inner.current.get(bucket_of(value)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// One more latency.
    pub fn record_duration(&self, latency: Duration) {
        self.record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// ZooKeeper's names for `mntr`: `avg_x`, `min_x`, `max_x`, `cnt_x`, `sum_x`, and percentiles of latencies.
    pub fn monitor(&self) -> Vec<(String, MonitorValue)> {
        let inner = &*self.0;
        let name = &inner.desc.fq_name;
        let count = inner.count.load(Relaxed);
        let sum = inner.sum.load(Relaxed) as f64 / inner.scale;
        let whole = |value: u64| MonitorValue::Int((value as f64 / inner.scale) as i64);
        let average = (sum / count.max(1) as f64 * 10_000.0).round() / 10_000.0;
        let min = if count == 0 { 0 } else { inner.min.load(Relaxed) };
        let mut values = vec![
            (format!("avg_{name}"), MonitorValue::Float(average)),
            (format!("min_{name}"), whole(min)),
            (format!("max_{name}"), whole(inner.max.load(Relaxed))),
            (format!("cnt_{name}"), MonitorValue::from_u64(count)),
            (format!("sum_{name}"), MonitorValue::Int(sum as i64)),
        ];
        if inner.quantiles.len() > 1 {
            let counts = inner.recent();
            for (percentile, quantile) in MONITOR_QUANTILES {
                let value = inner.quantile(&counts, quantile);
                values.push((format!("{percentile}_{name}"), MonitorValue::Int(value.unwrap_or(0.0).round() as i64)));
            }
        }
        values
    }
}

impl Inner {
    /// The buckets of the last two windows added up.
    fn recent(&self) -> Vec<u64> {
        let mut rotated = self.rotated.lock();
        if rotated.elapsed() >= WINDOW {
            *rotated = Instant::now();
            self.rotate();
        }
        self.current.iter().zip(&self.previous).map(|(new, old)| new.load(Relaxed) + old.load(Relaxed)).collect()
    }

    fn rotate(&self) {
        for (new, old) in self.current.iter().zip(&self.previous) {
            old.store(new.swap(0, Relaxed), Relaxed);
        }
    }

    /// In the unit shown; `None` where nothing was recorded.
    fn quantile(&self, counts: &[u64], quantile: f64) -> Option<f64> {
        let total: u64 = counts.iter().sum();
        let rank = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        // No quantile is beyond what was recorded, although its bucket's middle may be.
        let value = middle_of(bucket).clamp(self.min.load(Relaxed) as f64, self.max.load(Relaxed) as f64);
        Some(value / self.scale)
    }
}

/// Which bucket counts a value.
fn bucket_of(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let sub = (value >> (exponent - SUB_BITS)) as usize - SUB_BUCKETS;
    (exponent - SUB_BITS + 1) as usize * SUB_BUCKETS + sub
}

/// The middle of what a bucket counts.
fn middle_of(bucket: usize) -> f64 {
    if bucket < 2 * SUB_BUCKETS {
        return bucket as f64;
    }
    let width = 2f64.powi((bucket / SUB_BUCKETS) as i32 - 1);
    ((SUB_BUCKETS + bucket % SUB_BUCKETS) as f64 + 0.5) * width
}

impl Collector for Summary {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let inner = &*self.0;
        let counts = inner.recent();
        let quantiles = inner.quantiles.iter().map(|quantile| {
            let mut sample = Quantile::default();
            sample.set_quantile(*quantile);
            sample.set_value(inner.quantile(&counts, *quantile).unwrap_or(f64::NAN));
            sample
        });
        let mut value = SummaryValue::default();
        value.set_sample_count(inner.count.load(Relaxed));
        value.set_sample_sum(inner.sum.load(Relaxed) as f64 / inner.scale);
        value.set_quantile(quantiles.collect());
        let mut metric = Metric::default();
        metric.set_summary(value);
        let mut family = MetricFamily::default();
        family.set_name(inner.desc.fq_name.clone());
        family.set_help(inner.desc.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_near_it() {
        let powers = (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, (1 << bit) + (1 << bit) / 3]);
        for value in (0..5000).chain(powers).chain([u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS, "{value}");
            let error = (middle_of(bucket) - value as f64).abs();
            assert!(error <= value as f64 / 32.0, "{value}: {}", middle_of(bucket));
        }
        let buckets: Vec<usize> = (0..100_000).map(bucket_of).collect();
        assert!(buckets.is_sorted());
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let summary = Summary::count("x", "a number").unwrap();
        (1..=1000).for_each(|value| summary.record(value));
        let counts = summary.0.recent();
        for (quantile, exact) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let value = summary.0.quantile(&counts, quantile).unwrap();
            assert!((value - exact).abs() <= exact / 32.0, "{quantile}: {value}");
        }
    }

    #[test]
    fn quantiles_forget_what_sums_keep() {
        let summary = Summary::milliseconds("x", "a latency").unwrap();
        let recent = |quantile| summary.0.quantile(&summary.0.recent(), quantile);
        assert_eq!(recent(0.5), None);
        summary.record_duration(Duration::from_millis(8));
        summary.0.rotate();
        assert!(recent(0.5).is_some());
        summary.0.rotate();
        assert_eq!(recent(0.5), None);
        let family = summary.collect().remove(0);
        let value = family.get_metric()[0].get_summary();
        assert_eq!((value.sample_count(), value.sample_sum()), (1, 8.0));
    }

    #[test]
    fn mntr_shows_percentiles_of_latencies_only() {
        let latency = Summary::milliseconds("readlatency", "a latency").unwrap();
        let names = |summary: &Summary| summary.monitor().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(&latency),
            [
                "avg_readlatency",
                "min_readlatency",
                "max_readlatency",
                "cnt_readlatency",
                "sum_readlatency",
                "p50_readlatency",
                "p95_readlatency",
                "p99_readlatency",
                "p999_readlatency"
            ]
        );
        assert_eq!(latency.monitor()[1].1, MonitorValue::Int(0));
        latency.record_duration(Duration::from_millis(4));
        latency.record_duration(Duration::from_millis(10));
        let values: Vec<MonitorValue> = latency.monitor().into_iter().map(|(_, value)| value).collect();
        let (int, float) = (MonitorValue::Int, MonitorValue::Float);
        assert_eq!(values[..6], [float(7.0), int(4), int(10), int(2), int(14), int(4)]);
        assert_eq!(names(&Summary::count("x", "a number").unwrap()), ["avg_x", "min_x", "max_x", "cnt_x", "sum_x"]);
    }
}
