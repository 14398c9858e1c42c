//! Families of series whose number of labels is part of their type, so that asking one for a series cannot fail.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc, MetricVec, MetricVecBuilder};
use prometheus::proto::{Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType};
use prometheus::{CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::catalogue::{Kind, Metric};
use super::metrics::Error;

/// A registered metric with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Family<V, const N: usize> {
    vector: V,
}

/// A metric without its labels' values. All of the library's vectors are one generic type whose parameter it
/// keeps to itself; this names what is needed of it.
pub(super) trait Vector: Collector + Clone + Sized + 'static {
    /// One series.
    type Series;

    fn create(metric: &Metric) -> prometheus::Result<Self>;
    fn series(&self, values: &[&str]) -> prometheus::Result<Self::Series>;
}

impl<V: Vector, const N: usize> Family<V, N> {
    /// Registers `metric`, which must have `N` labels.
    pub(super) fn register(registry: &Registry, metric: &Metric) -> Result<Self, Error> {
        if metric.labels.len() != N {
            return Err(Error::Labels { metric: metric.name, expected: N });
        }
        let registered = V::create(metric).and_then(|vector| {
            registry.register(Box::new(vector.clone()))?;
            Ok(vector)
        });
        registered
            .map(|vector| Self { vector })
            .map_err(|source| Error::Register { metric: metric.name, source })
    }

    /// The series with these values, in the order of the catalogue's labels; created with 0 when it is new.
    pub(super) fn with(&self, values: [&str; N]) -> V::Series {
        self.vector.series(&values).expect("the number of labels was compared when the metric was registered")
    }
}

fn options(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

/// Ties a vector of the library to the function that creates it.
macro_rules! vector {
    ($vector:ty, $create:expr) => {
        impl Vector for $vector {
            type Series = <Self as Builder>::Series;

            fn create(metric: &Metric) -> prometheus::Result<Self> {
                $create(metric)
            }

            fn series(&self, values: &[&str]) -> prometheus::Result<Self::Series> {
                self.get_metric_with_label_values(values)
            }
        }
    };
}

/// The type of a vector's series.
pub(super) trait Builder {
    type Series;
}

impl<B: MetricVecBuilder> Builder for MetricVec<B> {
    type Series = B::M;
}

vector!(IntCounterVec, |metric: &Metric| IntCounterVec::new(options(metric), metric.labels));
vector!(CounterVec, |metric: &Metric| CounterVec::new(options(metric), metric.labels));
vector!(IntGaugeVec, |metric: &Metric| IntGaugeVec::new(options(metric), metric.labels));
vector!(HistogramVec, |metric: &Metric| {
    let options = HistogramOpts::new(metric.name, metric.help);
    let options = match metric.kind {
        Kind::Histogram(bounds) => options.buckets(bounds.to_vec()),
        Kind::Counter | Kind::Gauge => options,
    };
    HistogramVec::new(options, metric.labels)
});

/// What a collector tells the registry of the metrics that it makes up.
pub(super) fn describe(metrics: &[Metric]) -> Result<Vec<Desc>, Error> {
    let describe = |metric: &Metric| {
        let labels = metric.labels.iter().map(|&label| label.to_owned()).collect();
        let description = Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, HashMap::new());
        description.map_err(|source| Error::Register { metric: metric.name, source })
    };
    metrics.iter().map(describe).collect()
}

/// A family that a collector makes up at a scrape: one sample for each set of label values, in the order of the
/// catalogue's labels.
pub(super) fn family<'v>(
    metric: &Metric,
    samples: impl Iterator<Item = (Vec<&'v str>, f64)>,
) -> MetricFamily {
    let counts = metric.kind == Kind::Counter;
    let samples = samples.map(|(values, value)| sample(metric, &values, value, counts));
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(if counts { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(samples.collect());
    family
}

fn sample(metric: &Metric, values: &[&str], value: f64, counts: bool) -> Sample {
    let pairs = metric.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut pairs: Vec<LabelPair> = pairs.collect();
    // As the library does with its own, so that all lines of the text look alike.
    pairs.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let mut sample = Sample::from_label(pairs);
    if counts {
        let mut counter = prometheus::proto::Counter::default();
        counter.set_value(value);
        sample.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        sample.set_gauge(gauge);
    }
    sample
}
