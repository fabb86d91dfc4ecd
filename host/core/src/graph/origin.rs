//! Whom a job may send HTTP requests to: origins, as a pipeline asks for them and the owner of the job grants them.
//!
//! An origin is a scheme, a host and a port (RFC 6454): `https://api.example.org`, `http://localhost:8080`. A host that begins
//! with `*.` stands for all hosts below a domain, and not for the domain itself.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Code of every origin that cannot be read.
const CODE: &str = "HT0002";

/// A scheme, hosts and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    secure: bool,
    /// In lower case; without the `*.` of a pattern.
    host: String,
    /// It stands for all hosts below the domain.
    below: bool,
    port: u16,
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`.
    ///
    /// ```
    /// # use millrace_core::graph::Origin;
    /// let granted = Origin::parse("https://*.example.org")?;
    /// assert!(granted.covers(&Origin::parse("https://api.example.org:443/")?));
    /// assert!(!granted.allows("https", "example.org", 443));
    /// # Ok::<(), millrace_core::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let message = format!("`{text}` is no origin such as `https://api.example.org`: {why}");
            Err(Error::user(CODE, message))
        };
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return refuse("it begins with `https://` or `http://`"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return refuse("it has a host and a port alone, without path or user");
        }
        // The colons of an address of version 6 are in brackets.
        let port_at = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match port_at {
            None => (rest, None),
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        };
        let port = match port.map(str::parse) {
            None if secure => 443,
            None => 80,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return refuse("its port is no number up to 65535"),
        };
        let host = host.to_ascii_lowercase();
        let (below, host) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain.to_owned()),
            None => (false, host),
        };
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_name = |host: &str| {
            let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
            !host.is_empty() && host.chars().all(fits) && !host.split('.').any(str::is_empty)
        };
        let is_host = if is_address { !below } else { is_name(&host) };
        if !is_host {
            return refuse("its host is no name, address, or `*.` and a domain");
        }
        Ok(Origin {
            secure,
            host,
            below,
            port,
        })
    }

    /// Whether requests to such a place are to this origin. The host is in lower case.
    pub fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        let is_host = match self.below {
            false => host == self.host,
            true => host
                .strip_suffix(&self.host)
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        };
        scheme == self.scheme() && port == self.port && is_host
    }

    /// Whether everything that the other origin stands for is granted with this one.
    pub fn covers(&self, other: &Origin) -> bool {
        match other.below {
            true => {
                let below = Origin {
                    below: false,
                    ..other.clone()
                };
                self.below && (self.is_same_domain(other) || self.covers(&below))
            }
            false => self.allows(other.scheme(), &other.host, other.port),
        }
    }

    fn is_same_domain(&self, other: &Origin) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{}://{below}{}", self.scheme(), self.host)?;
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_origin() {
        let check = |text: &str, expect: Option<&str>| {
            let parsed = Origin::parse(text).ok().map(|origin| origin.to_string());
            assert_eq!(parsed.as_deref(), expect, "{text}");
        };
        check("https://api.example.org", Some("https://api.example.org"));
        check("https://API.example.org:443/", Some("https://api.example.org"));
        check("http://localhost:8080", Some("http://localhost:8080"));
        check("http://127.0.0.1", Some("http://127.0.0.1"));
        check("http://[::1]:81", Some("http://[::1]:81"));
        check("http://[::1]", Some("http://[::1]"));
        check("https://*.example.org:8443", Some("https://*.example.org:8443"));
        for wrong in [
            "api.example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u:p@a",
            "https://a:0",
            "https://a:x",
            "https://*",
            "https://a.*.b",
            "https://a..b",
            "https://*.[::1]",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_covers_what() {
        let check = |granted: &str, asked: &str, expect: bool| {
            let [granted, asked] = [granted, asked].map(|text| Origin::parse(text).expect("an origin"));
            assert_eq!(granted.covers(&asked), expect, "{granted} {asked}");
        };
        check("https://a.org", "https://a.org", true);
        check("https://a.org", "http://a.org", false);
        check("https://a.org", "https://a.org:444", false);
        check("https://a.org", "https://b.a.org", false);
        check("https://*.a.org", "https://b.a.org", true);
        check("https://*.a.org", "https://c.b.a.org", true);
        check("https://*.a.org", "https://a.org", false);
        check("https://*.a.org", "https://ba.org", false);
        check("https://*.a.org", "https://*.a.org", true);
        check("https://*.a.org", "https://*.b.a.org", true);
        check("https://*.b.a.org", "https://*.a.org", false);
        check("https://b.a.org", "https://*.b.a.org", false);
    }
}
