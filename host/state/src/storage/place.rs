//! What a URL says, before anything is opened.

use std::path::PathBuf;

use millrace_core::{Error, Result};

use crate::codes;
use crate::names::decode_url;

/// Where a storage is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Memory(String),
    #[cfg(feature = "cloud")]
    Cloud(Cloud),
}

/// A bucket and the folder in it.
#[cfg(feature = "cloud")]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    pub(super) service: Service,
    pub(super) bucket: String,
    pub(super) prefix: String,
}

/// Who keeps a bucket.
#[cfg(feature = "cloud")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Google,
    Azure,
}

impl Place {
    pub(super) fn parse(url: &str) -> Result<Place> {
        let refuse = |why: &str| Err(Error::user(codes::URL, format!("checkpoint storage `{url}`: {why}")));
        if url.is_empty() {
            return refuse("a path or URL is needed");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Ok(Place::Folder(PathBuf::from(url)));
        };
        match scheme {
            "file" => {
                if !rest.starts_with('/') {
                    return refuse("a file URL has three slashes, as in `file:///data/checkpoints`");
                }
                match decode_url(rest) {
                    Some(path) => Ok(Place::Folder(PathBuf::from(path))),
                    None => refuse("`%` must be followed by two hexadecimal digits, and the path be UTF-8"),
                }
            }
            "memory" if rest.is_empty() => refuse("a name is needed, as in `memory://test`"),
            "memory" => Ok(Place::Memory(rest.to_owned())),
            "s3" | "s3a" | "gs" | "az" => cloud(url, scheme, rest),
            _ => refuse("known are a path, `file://`, `memory://`, `s3://`, `gs://` and `az://`"),
        }
    }
}

#[cfg(feature = "cloud")]
fn cloud(url: &str, scheme: &str, rest: &str) -> Result<Place> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let sound = |segment: &str| !["", ".", ".."].contains(&segment) && !segment.contains(char::is_control);
    let prefix = prefix.trim_end_matches('/');
    if !sound(bucket) || !(prefix.is_empty() || prefix.split('/').all(sound)) {
        let why = format!("expected `{scheme}://bucket/folder`");
        return Err(Error::user(codes::URL, format!("checkpoint storage `{url}`: {why}")));
    }
    Ok(Place::Cloud(Cloud {
        service: match scheme {
            "gs" => Service::Google,
            "az" => Service::Azure,
            _ => Service::S3,
        },
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    }))
}

#[cfg(not(feature = "cloud"))]
fn cloud(url: &str, _scheme: &str, _rest: &str) -> Result<Place> {
    let why = "this program was built without cloud storage (feature `cloud`)";
    Err(Error::user(
        codes::NO_CLOUD,
        format!("checkpoint storage `{url}`: {why}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed() {
        for (url, expect) in [
            ("checkpoints", Place::Folder("checkpoints".into())),
            ("/a b/c", Place::Folder("/a b/c".into())),
            ("file:///a%20b", Place::Folder("/a b".into())),
            ("memory://x", Place::Memory("x".to_owned())),
        ] {
            assert_eq!(Place::parse(url).unwrap(), expect, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["", "file://a/b", "file:///%zz", "memory://", "hdfs://a/b"] {
            let error = Place::parse(url).unwrap_err();
            assert_eq!((error.code(), error.fault().exit_code()), (codes::URL, 2), "{url}");
            assert!(error.to_string().contains(url), "{error}");
        }
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn buckets_are_parsed() {
        let check = |url: &str, service, bucket: &str, prefix: &str| {
            let expect = Cloud {
                service,
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            };
            assert_eq!(Place::parse(url).unwrap(), Place::Cloud(expect), "{url}");
        };
        check("s3://b", Service::S3, "b", "");
        check("s3://b/x/y/", Service::S3, "b", "x/y");
        check("gs://b/x", Service::Google, "b", "x");
        check("az://b/x", Service::Azure, "b", "x");
        for url in ["s3://", "s3:///x", "s3://b/../x", "s3://b/x//y"] {
            assert_eq!(Place::parse(url).unwrap_err().code(), codes::URL, "{url}");
        }
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn buckets_need_the_feature() {
        let error = Place::parse("s3://b/x").unwrap_err();
        assert_eq!(error.code(), codes::NO_CLOUD);
        assert!(error.to_string().contains("feature `cloud`"), "{error}");
    }
}
