//! The services that sign: a `SigningConfig` of the Sigstore protobuf specifications, v0.2.

use std::collections::BTreeSet;

use jiff::Timestamp;
use promotion_gate_core::strict_json::{Fields, unambiguous};
use serde::Deserialize;
use sigstore_trust_root::SIGSTORE_PRODUCTION_SIGNING_CONFIG;
use url::Url;

use crate::error::SignError;

/// The largest file.
const MAXIMUM_BYTES: usize = 256 << 10;
/// The most services of one kind.
const MAXIMUM_SERVICES: usize = 64;
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";
/// When the built-in configuration of the public-good instance was taken.
const PUBLIC_GOOD_OF: &str = "2026-10-23";

/// The services of one Sigstore that can be used at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningServices {
    /// Where the configuration comes from, in words.
    pub origin: String,
    pub(crate) certificate_authority: Option<Url>,
    pub(crate) identity_provider: Option<Url>,
    pub(crate) logs: Vec<(Url, LogVersion)>,
    pub(crate) timestamp_authorities: Vec<Url>,
}

/// The protocol of a transparency log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogVersion {
    /// Rekor v1, which signs a time.
    V1,
    /// Rekor v2, which signs no time.
    V2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: String,
    #[serde(default)]
    ca_urls: Vec<WrittenService>,
    #[serde(default)]
    oidc_urls: Vec<WrittenService>,
    #[serde(default)]
    rekor_tlog_urls: Vec<WrittenService>,
    #[serde(default)]
    tsa_urls: Vec<WrittenService>,
    #[serde(default)]
    rekor_tlog_config: Option<WrittenSelection>,
    #[serde(default)]
    tsa_config: Option<WrittenSelection>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenService {
    url: String,
    #[serde(default)]
    major_api_version: u32,
    #[serde(default)]
    valid_for: Period,
    #[serde(default)]
    operator: String,
}

#[derive(Default, Deserialize)]
struct Period {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

#[derive(Deserialize)]
struct WrittenSelection {
    #[serde(default)]
    selector: String,
    #[serde(default)]
    count: usize,
}

impl SigningServices {
    /// The public-good instance of Sigstore, as this version knows it.
    ///
    /// # Errors
    /// If none of its services is valid at this time.
    pub fn public_good(now: Timestamp) -> Result<SigningServices, SignError> {
        let origin = format!("the public-good instance of Sigstore (as of {PUBLIC_GOOD_OF})");
        SigningServices::parse(&origin, SIGSTORE_PRODUCTION_SIGNING_CONFIG.as_bytes(), now)
    }

    /// Reads a configuration, and selects the services that are used at a time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(origin: &str, json: &[u8], now: Timestamp) -> Result<SigningServices, SignError> {
        let refused =
            |why: &str| SignError::Unusable(format!("{origin}: {why}; expected `{MEDIA_TYPE}`"));
        if json.len() > MAXIMUM_BYTES {
            return Err(refused("the signing configuration is too large"));
        }
        let text = unambiguous(json, Fields::default());
        let text = text.map_err(|why| refused(&format!("it {why}")))?;
        let written: Written =
            serde_json::from_str(text).map_err(|error| refused(&error.to_string()))?;
        if written.media_type != MEDIA_TYPE {
            return Err(refused("it has another `mediaType`"));
        }
        let usable = |services: &[WrittenService], versions: &[u32]| {
            usable(services, versions, now).map_err(|why| refused(&why))
        };
        let logs = usable(&written.rekor_tlog_urls, &[1, 2])?;
        let logs = selected(logs, written.rekor_tlog_config.as_ref());
        let logs = logs.map_err(|why| refused(&format!("`rekorTlogConfig`: {why}")))?;
        let stamps = usable(&written.tsa_urls, &[1])?;
        let stamps = selected(stamps, written.tsa_config.as_ref());
        let stamps = stamps.map_err(|why| refused(&format!("`tsaConfig`: {why}")))?;
        let first = |services: Vec<Usable>| services.into_iter().next().map(|service| service.url);
        Ok(SigningServices {
            origin: origin.to_owned(),
            certificate_authority: first(usable(&written.ca_urls, &[1])?),
            identity_provider: first(usable(&written.oidc_urls, &[1])?),
            logs: logs.into_iter().map(|log| (log.url, log.version)).collect(),
            timestamp_authorities: stamps.into_iter().map(|stamps| stamps.url).collect(),
        })
    }

    /// The identity provider that people sign in to.
    pub fn identity_provider(&self) -> Option<&Url> {
        self.identity_provider.as_ref()
    }
}

struct Usable {
    url: Url,
    version: LogVersion,
    operator: String,
}

/// The services that are valid at a time and whose protocol is known, the newest protocol first.
fn usable(
    services: &[WrittenService],
    versions: &[u32],
    now: Timestamp,
) -> Result<Vec<Usable>, String> {
    if services.len() > MAXIMUM_SERVICES {
        return Err(format!(
            "it has more than {MAXIMUM_SERVICES} services of one kind"
        ));
    }
    let mut usable = Vec::new();
    for service in services {
        let url = Url::parse(&service.url).ok();
        let url = url.filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        let url =
            url.ok_or_else(|| format!("`{:.200}` is not the URL of a service", service.url))?;
        let Period { start, end } = service.valid_for;
        let is_valid = start.is_none_or(|start| start <= now) && end.is_none_or(|end| now < end);
        if is_valid && versions.contains(&service.major_api_version) {
            usable.push(Usable {
                url,
                version: match service.major_api_version {
                    2 => LogVersion::V2,
                    _ => LogVersion::V1,
                },
                operator: service.operator.clone(),
            });
        }
    }
    usable.sort_by_key(|service| std::cmp::Reverse(service.version));
    Ok(usable)
}

/// One service of each operator, as many as the selector asks for. A selector that is left out asks for any one.
fn selected(
    services: Vec<Usable>,
    selection: Option<&WrittenSelection>,
) -> Result<Vec<Usable>, String> {
    let mut operators = BTreeSet::new();
    let mut each: Vec<_> = services
        .into_iter()
        .filter(|service| service.operator.is_empty() || operators.insert(service.operator.clone()))
        .collect();
    let (selector, count) = selection.map_or(("ANY", 0), |it| (it.selector.as_str(), it.count));
    match selector {
        "ANY" => each.truncate(1),
        "ALL" => {}
        "EXACT" if count == 0 || count > each.len() => {
            return Err(format!(
                "it asks for {count} services, and {} of different operators can be used now",
                each.len()
            ));
        }
        "EXACT" => each.truncate(count),
        other => return Err(format!("the selector `{other:.40}` is not known")),
    }
    Ok(each)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn service(url: &str, version: u32, operator: &str, start: &str, end: Option<&str>) -> Value {
        json!({"url": url, "majorApiVersion": version, "operator": operator,
            "validFor": {"start": start, "end": end}})
    }

    fn read(logs: Value, selection: Value) -> Result<Vec<(String, LogVersion)>, SignError> {
        let written =
            json!({"mediaType": MEDIA_TYPE, "rekorTlogUrls": logs, "rekorTlogConfig": selection});
        let bytes = written.to_string();
        let read = SigningServices::parse("file", bytes.as_bytes(), at("2026-11-28T00:00:00Z"))?;
        let logs = read.logs.into_iter();
        Ok(logs
            .map(|(url, version)| (url.to_string(), version))
            .collect())
    }

    #[test]
    fn the_public_good_instance_is_built_in() {
        let services = SigningServices::public_good(at("2026-11-28T00:00:00Z")).unwrap();
        let url = |url: &Option<Url>| url.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(
            url(&services.certificate_authority),
            "https://fulcio.sigstore.dev/"
        );
        assert_eq!(
            url(&services.identity_provider),
            "https://oauth2.sigstore.dev/auth"
        );
        assert_eq!(services.logs.len(), 1);
        assert_eq!(services.timestamp_authorities.len(), 1);
        assert!(services.origin.contains(PUBLIC_GOOD_OF));
        let before = SigningServices::public_good(at("2020-01-01T00:00:00Z")).unwrap();
        assert!(before.logs.is_empty() && before.certificate_authority.is_none());
    }

    #[test]
    fn services_are_used_within_their_time_the_newest_protocol_first() {
        let logs = json!([
            service(
                "https://ended.example",
                2,
                "a",
                "2020-01-01T00:00:00Z",
                Some("2026-11-28T00:00:00Z")
            ),
            service(
                "https://future.example",
                2,
                "a",
                "2026-11-28T00:00:01Z",
                None
            ),
            service(
                "https://unknown.example",
                3,
                "a",
                "2020-01-01T00:00:00Z",
                None
            ),
            service("https://old.example", 1, "a", "2020-01-01T00:00:00Z", None),
            service("https://new.example", 2, "a", "2020-01-01T00:00:00Z", None),
            service(
                "https://other.example",
                1,
                "b",
                "2020-01-01T00:00:00Z",
                None
            ),
        ]);
        let new = ("https://new.example/".to_owned(), LogVersion::V2);
        let other = ("https://other.example/".to_owned(), LogVersion::V1);
        let read = |selection| read(logs.clone(), selection);
        let all = [new, other];
        assert_eq!(read(json!({"selector": "ANY"})).unwrap(), all[..1]);
        assert_eq!(read(Value::Null).unwrap(), all[..1]);
        assert_eq!(read(json!({"selector": "ALL"})).unwrap(), all);
        assert_eq!(read(json!({"selector": "EXACT", "count": 2})).unwrap(), all);
        for selection in [
            json!({"selector": "EXACT", "count": 3}),
            json!({"selector": "EXACT"}),
            json!({"selector": "SERVICE_SELECTOR_UNDEFINED"}),
        ] {
            read(selection).unwrap_err();
        }
    }

    #[test]
    fn a_configuration_that_could_mean_two_things_is_refused() {
        for text in [
            "{}".to_owned(),
            json!({"mediaType": "application/json"}).to_string(),
            format!(r#"{{"mediaType": "{MEDIA_TYPE}", "mediaType": "{MEDIA_TYPE}"}}"#),
            json!({"mediaType": MEDIA_TYPE, "caUrls": [{"url": "file:///etc/passwd", "majorApiVersion": 1}]})
                .to_string(),
            " ".repeat(MAXIMUM_BYTES + 1),
        ] {
            let now = at("2026-11-28T00:00:00Z");
            SigningServices::parse("file", text.as_bytes(), now).unwrap_err();
        }
    }
}
