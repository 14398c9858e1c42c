//! The server under the tests, by environment variable, and what it cannot do.

/// The address of a server to test against instead of the embedded one.
pub(crate) const ENDPOINT: &str = "DYNAMIRROR_TEST_ENDPOINT";

/// Which server that is: `ministack` or `dynamodb-local`.
pub(crate) const SERVER: &str = "DYNAMIRROR_TEST_SERVER";

/// The server under the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The one inside the emulator.
    Embedded,
    /// `ministack`, from PyPI.
    Ministack,
    /// Amazon's DynamoDB Local.
    DynamodbLocal,
}

/// Which server is tested against.
///
/// # Panics
/// When an address is given without a server that is known here: what it cannot do is not known then.
pub(crate) fn server() -> Server {
    if endpoint().is_none() {
        return Server::Embedded;
    }
    match std::env::var(SERVER).as_deref() {
        Ok("ministack") => Server::Ministack,
        Ok("dynamodb-local") => Server::DynamodbLocal,
        other => {
            panic!("{ENDPOINT} is set, so {SERVER} must be `ministack` or `dynamodb-local`, not {other:?}")
        }
    }
}

/// The address given, if any.
pub(crate) fn endpoint() -> Option<String> {
    std::env::var(ENDPOINT).ok().filter(|address| !address.is_empty())
}

/// The address given.
///
/// # Panics
/// When there is none: a test that needs one cannot pass without.
pub(crate) fn required_endpoint() -> String {
    endpoint()
        .unwrap_or_else(|| panic!("this test needs a server of its own: set {ENDPOINT}, or run tests/run"))
}

impl Server {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "the embedded server",
            Self::Ministack => "ministack",
            Self::DynamodbLocal => "DynamoDB Local",
        }
    }

    /// Whether expired items are deleted when a test asks for it, with a record that names the service.
    pub(crate) fn sweeps_on_demand(self) -> Result<(), &'static str> {
        match self {
            Self::Embedded => Ok(()),
            Self::Ministack => Err("it deletes expired items without a stream record"),
            Self::DynamodbLocal => Err("it deletes expired items when it likes, and names no service"),
        }
    }

    /// Whether an empty map is still one in a stream's image.
    pub(crate) fn streams_empty_maps(self) -> Result<(), &'static str> {
        match self {
            Self::Embedded | Self::Ministack => Ok(()),
            Self::DynamodbLocal => Err("its streams show an empty map as a value without a type"),
        }
    }

    /// Whether records tell the second in which they were made.
    pub(crate) fn tells_seconds(self) -> Result<(), &'static str> {
        match self {
            Self::Embedded | Self::Ministack => Ok(()),
            Self::DynamodbLocal => Err("its records carry whole minutes"),
        }
    }

    /// Says of everything that is left out because of this server what it is, and why.
    pub(crate) fn tell(self) {
        for (what, can) in [
            ("time to live", self.sweeps_on_demand()),
            ("empty maps", self.streams_empty_maps()),
            ("starts at a time", self.tells_seconds()),
        ] {
            if let Err(reason) = can {
                println!("not tested against {}: {what}, because {reason}", self.name());
            }
        }
    }
}
