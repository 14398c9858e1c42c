//! Where log lines go and how they look: standard error, as text on a terminal and as JSON elsewhere.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// A line for a person.
    Text,
    /// A JSON object.
    Json,
}

/// Why there are no logs as asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("understand the log filter {filter:?}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The filter names a target that is almost a level, and would switch everything else off.
    #[error("understand the log filter {filter:?}: {word:?} is not a level; did you mean {level:?}?")]
    Level {
        /// As given.
        filter: String,
        /// The doubtful part.
        word: String,
        /// The level that it resembles.
        level: &'static str,
    },
    /// Neither `auto` nor `text` nor `json`.
    #[error("understand the log format {0:?}: it is one of auto, text, json")]
    Format(String),
    /// Another part of the process already receives the logs.
    #[error("start logging")]
    Installed {
        /// The library's word for it.
        source: TryInitError,
    },
}

/// What a filter may name instead of a target.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

// === impl Format ===

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::Format(other.to_owned())),
        }
    }
}

/// Sends the events that `filter` lets through, such as `info,dynamirror::lease=debug`, to standard error from now
/// on. To be called once in a process.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    init_to(format, filter, io::stderr)
}

/// Like [`init`], but through `writer`, which knows what else is shown on standard error.
pub fn init_to<W>(format: Format, filter: &str, writer: W) -> Result<(), Error>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = parse(filter)?;
    let terminal = io::stderr().is_terminal();
    let colours = terminal && colours_wanted(std::env::var_os("NO_COLOR").as_deref());
    Registry::default()
        .with(layer(format, terminal, colours, writer))
        .with(filter)
        .try_init()
        .map_err(|source| Error::Installed { source })
}

/// Whether `filter` would be accepted.
pub fn check(filter: &str) -> Result<(), Error> {
    parse(filter).map(drop)
}

/// As <https://no-color.org> has it: any value that is not empty means none.
fn colours_wanted(no_color: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty)
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    if let Some((word, level)) = almost_level(filter) {
        return Err(Error::Level { filter: filter.to_owned(), word: word.to_owned(), level });
    }
    EnvFilter::builder().parse(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })
}

/// The first part that is taken for a target but looks like a misspelt level. A filter of nothing but a target
/// logs that target alone, so that a slip of the finger would silence the program.
fn almost_level(filter: &str) -> Option<(&str, &'static str)> {
    let words = filter.split(',').map(str::trim);
    let targets = words.filter(|word| {
        let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        word.len() > 2 && plain && !level
    });
    targets.into_iter().find_map(|word| {
        let lower = word.to_ascii_lowercase();
        let resembles = |level: &&str| lower.starts_with(*level) || strsim::osa_distance(&lower, level) == 1;
        let level = LEVELS.into_iter().find(|level| resembles(level));
        level.map(|level| (word, level))
    })
}

fn layer<S, W>(format: Format, terminal: bool, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    match format {
        Format::Json | Format::Auto if format == Format::Json || !terminal => fmt::layer()
            .json()
            .flatten_event(true)
            // The list contains it.
            .with_current_span(false)
            .with_span_list(true)
            .with_writer(writer)
            .boxed(),
        _ => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, terminal: bool, colours: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = Registry::default()
            .with(layer(format, terminal, colours, move || writer.clone()))
            .with(parse("info").expect("a level is a filter"));
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("replication", replication = "orders").entered();
            tracing::debug!("hidden");
            tracing::warn!(table = "Orders", "shard ended");
        });
        let bytes = lines.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("log lines are text")
    }

    #[test]
    fn a_machine_gets_json_with_the_fields_at_the_top() {
        for text in [logged(Format::Json, true, false), logged(Format::Auto, false, false)] {
            let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
            assert_eq!(line["message"], "shard ended");
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["table"], "Orders");
            assert_eq!(line["spans"][0]["name"], "replication", "{text}");
            assert_eq!(line["spans"][0]["replication"], "orders", "{text}");
        }
    }

    #[test]
    fn a_person_gets_text_and_colours_only_when_wanted() {
        let plain = logged(Format::Text, false, false);
        assert!(plain.contains("shard ended") && plain.contains("table=\"Orders\""), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(logged(Format::Auto, true, true).contains('\u{1b}'));
        assert!(!plain.contains("hidden"), "{plain}");
    }

    #[test]
    fn no_color_counts_when_it_says_something() {
        assert!(colours_wanted(None));
        assert!(colours_wanted(Some(OsStr::new(""))));
        assert!(!colours_wanted(Some(OsStr::new("1"))));
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = check("dynamirror=loud").expect_err("loud is not a level");
        assert!(error.to_string().contains("dynamirror=loud"), "{error}");
        for (filter, level) in [("inof", "info"), ("warning", "warn"), ("info,hyper=warn,debg", "debug")] {
            let error = check(filter).expect_err(filter).to_string();
            assert!(error.contains(&format!("did you mean {level:?}")), "{error}");
        }
    }

    #[test]
    fn a_good_filter_is_taken() {
        for filter in
            ["info", "INFO", "off", "hyper", "warn,dynamirror::lease=debug", "dynamirror[shard]=trace"]
        {
            check(filter).expect(filter);
        }
    }

    #[test]
    fn a_format_has_a_name() {
        assert_eq!("json".parse::<Format>().expect("it is one"), Format::Json);
        assert!("yaml".parse::<Format>().expect_err("it is none").to_string().contains("yaml"));
    }
}
