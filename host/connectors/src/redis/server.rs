//! Connections, and what the errors of client and server mean to the user.

use std::time::Duration;

use millrace_core::{Error, Result};
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, cmd,
};

use super::settings::Settings;
use super::tls::{self, Tls};
use crate::password::Password;

/// After this a server that does not answer to a connection is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After this one is given up that does not answer to a command: a subtask must not wait without end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server is and who we are.
#[derive(Clone)]
pub(super) struct Server {
    info: ConnectionInfo,
    password: Password,
    tls: Tls,
    /// As people know it: without the password.
    shown: String,
}

/// Why something was not done.
pub(super) enum Failure {
    /// The connection is of no use any more; a new one may be.
    Lost(Error),
    /// There is nothing to be done about it here.
    Final(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Lost(error) | Failure::Final(error) => error,
        }
    }
}

impl Server {
    /// From the options.
    pub(super) fn parse(settings: &Settings) -> Result<Self> {
        let info = settings.url.as_str().into_connection_info().map_err(|error| {
            // The client's own words for what is wrong do not repeat the URL.
            let message = format!(
                "option `url` is not the address of a Redis server ({error}); it looks like \
                 `redis://user:password@host:6379/0`, `rediss://...` for TLS, or `redis+unix:///run/redis.sock`"
            );
            Error::user("CN0141", message)
        })?;
        settings.tls.check(info.addr())?;
        let settings_of = info.redis_settings().clone().set_skip_set_lib_name();
        let shown = match settings_of.db() {
            0 => info.addr().to_string(),
            database => format!("{}/{database}", info.addr()),
        };
        Ok(Server {
            info: info.set_redis_settings(settings_of),
            password: settings.password.clone(),
            tls: settings.tls.clone(),
            shown,
        })
    }

    /// The address for people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A connection.
    pub(super) fn connect(&self) -> Result<Connection> {
        let mut info = self.info.clone();
        if let Some(password) = self.password.read()? {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let client = match info.addr() {
            ConnectionAddr::TcpTls { .. } => Client::build_with_tls(info, self.tls.read()?).and_then(connect_with_tls),
            _ => Client::open(info).and_then(connect),
        };
        client.map_err(|error| self.unconnected(&error))
    }

    /// An error of a connection that is not there yet.
    fn unconnected(&self, error: &RedisError) -> Error {
        let words = words(error);
        if error.kind() == ErrorKind::InvalidClientConfig {
            return tls::refused(format!("Redis at {}: {words}", self.shown));
        }
        let refused = match error.kind() {
            ErrorKind::Server(kind) => kind != ServerErrorKind::BusyLoading,
            ErrorKind::AuthenticationFailed | ErrorKind::Extension => true,
            _ => false,
        };
        let (code, what) = match refused {
            true => ("IO0141", "refuses the connection"),
            false => ("IO0140", "cannot be reached"),
        };
        Error::external(code, format!("Redis at {} {what}: {words}", self.shown))
    }

    /// An error of a command; `what` was being done.
    pub(super) fn failure(&self, what: &str, error: &RedisError) -> Failure {
        let words = words(error);
        if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
            let message = format!("{what}: the connection to Redis at {} is lost: {words}", self.shown);
            return Failure::Lost(Error::external("IO0142", message));
        }
        Failure::Final(Error::external(
            "IO0143",
            format!("{what}: Redis at {}: {words}", self.shown),
        ))
    }
}

fn connect(client: Client) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(connection)
}

/// The two sides come to know each other with the first command; what is wrong with their certificates is to be seen here.
fn connect_with_tls(client: Client) -> RedisResult<Connection> {
    let mut connection = connect(client)?;
    connection.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    match cmd("PING").exec(&mut connection) {
        Err(error) if error.is_io_error() || error.is_connection_dropped() => return Err(error),
        // What the server has against the user shows later.
        Ok(()) | Err(_) => {}
    }
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(connection)
}

/// What went wrong; of many commands that failed, the first.
fn words(error: &RedisError) -> String {
    match error.clone().into_server_errors().as_deref() {
        Some([(_, first), ..]) => first.to_string(),
        Some([]) | None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::testing::options;

    #[test]
    fn addresses_are_shown_without_passwords() {
        let schema = Schema::new(vec![Field::new("x", DataType::Int64, false)]);
        let shown = |url: &str| {
            let pairs = [("url", url), ("structure", "list"), ("key", "k")];
            let settings = Settings::take(options(&pairs), &schema)?;
            Server::parse(&settings).map(|server| server.shown)
        };
        assert_eq!(shown("redis://:secret@db").unwrap(), "db:6379");
        assert_eq!(shown("rediss://me:secret@db:7000/3").unwrap(), "db:7000/3");
        assert_eq!(
            shown("redis+unix:///run/r.sock?db=2&pass=secret").unwrap(),
            "/run/r.sock/2"
        );
        for wrong in [
            "<url>",
            "http://me:secret@db",
            "redis://me:secret@db/secret",
            "redis://:secret@0.0.0.0",
            "",
        ] {
            let error = shown(wrong).unwrap_err();
            assert_eq!(error.code(), "CN0141", "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
