//! Connections, and what the server's errors mean to the user.

use std::error::Error as _;
use std::time::Duration;

use millrace_core::{Error, Result};
use postgres::config::Host;
use postgres::error::SqlState;
use postgres::{Client, Config};

use super::passfile::{self, Login};
use super::settings::Access;
use super::tls::Tls;
use crate::password::Password;

/// After this a server that does not answer is given up, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a connection is given up whose packets nobody acknowledges: a subtask must not wait without end.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Where the server is and who we are.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: Tls,
    password: Password,
    /// As people know it: without the password.
    shown: String,
}

impl Server {
    /// From a URL or `key=value` pairs.
    pub(super) fn parse(login: &Access) -> Result<Self> {
        let mut config: Config = login.url.parse().map_err(|error: postgres::Error| {
            let message = format!(
                "option `url` is not the address of a PostgreSQL server: {}",
                root_cause(&error)
            );
            Error::user("CN0121", message)
        })?;
        if config.get_hosts().is_empty() {
            return Err(Error::user(
                "CN0121",
                "option `url` names no server; it looks like `postgres://user:password@host:5432/database`",
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        config.ssl_mode(login.tls.client_mode());
        let shown = shown(&config);
        Ok(Server {
            config,
            tls: login.tls.clone(),
            password: login.password.clone(),
            shown,
        })
    }

    /// A connection of this name; others with it can be found and ended.
    pub(super) fn connect(&self, name: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.application_name(name);
        if let Some(password) = self.find_password()? {
            config.password(password);
        }
        config
            .connect(self.tls.connector()?)
            .map_err(|error| match error.as_db_error() {
                Some(refused) => Error::external(
                    "IO0121",
                    format!(
                        "PostgreSQL at {} refuses the connection: {}",
                        self.shown,
                        refused.message()
                    ),
                ),
                None if error.to_string().contains("TLS") => Error::external(
                    "IO0125",
                    format!(
                        "PostgreSQL at {}: no connection with TLS: {}",
                        self.shown,
                        root_cause(&error)
                    ),
                ),
                None => Error::external(
                    "IO0120",
                    format!("PostgreSQL at {} cannot be reached: {}", self.shown, root_cause(&error)),
                ),
            })
    }

    /// The password, if it is not in the URL.
    fn find_password(&self) -> Result<Option<String>> {
        let given = self.password.read()?;
        if given.is_some() || self.config.get_password().is_some() {
            return Ok(given);
        }
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.as_str(),
            Some(Host::Unix(_)) | None => "localhost",
        };
        let user = self.config.get_user().unwrap_or_default();
        Ok(passfile::find(&Login {
            host,
            port: self.config.get_ports().first().copied().unwrap_or(5432),
            database: self.config.get_dbname().unwrap_or(user),
            user,
        }))
    }

    /// An error of a statement; `what` was being done.
    pub(super) fn error(&self, what: &str, error: &postgres::Error) -> Error {
        let Some(refused) = error.as_db_error() else {
            let message = format!(
                "{what}: the connection to {} is lost: {}",
                self.shown,
                root_cause(error)
            );
            return Error::external("IO0122", message);
        };
        let mut message = format!("{what}: {}", refused.message());
        for more in [refused.detail(), refused.hint(), refused.where_()]
            .into_iter()
            .flatten()
        {
            message.push_str(&format!(" ({more})"));
        }
        // Classes 22 and 23: a value that the type does not hold, a constraint that a row breaks.
        let class = refused.code().code().get(..2).unwrap_or_default();
        match class {
            "22" | "23" => Error::pipeline("RW0103", message),
            _ => Error::external("IO0123", message),
        }
    }
}

/// Whether the server says this.
pub(super) fn is(error: &postgres::Error, state: &SqlState) -> bool {
    error.code() == Some(state)
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    match config.get_dbname().or(config.get_user()) {
        Some(database) => format!("{hosts}/{database}"),
        None => hosts,
    }
}

fn root_cause(error: &postgres::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => error.to_string(),
    }
}

/// A name in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};

    use super::super::settings::Settings;
    use super::*;
    use crate::testing::options;

    #[test]
    fn addresses() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let shown = |url: &str| {
            Settings::take(options(&[("url", url), ("table", "t")]), &schema)
                .and_then(|settings| Server::parse(&settings.access))
                .map(|server| server.shown)
                .map_err(|error| error.code())
        };
        assert_eq!(shown("postgres://me:secret@db:5433/sales"), Ok("db:5433/sales".into()));
        assert_eq!(shown("host=db user=me password=secret"), Ok("db:5432/me".into()));
        assert_eq!(shown("postgres://me@db/x?sslmode=require"), Ok("db:5432/x".into()));
        assert_eq!(shown("postgres:///sales"), Err("CN0121"));
        assert_eq!(shown("<url>"), Err("CN0121"));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
    }
}
