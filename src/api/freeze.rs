//! `ChangeFreeze` as written, and the one conversion into the freeze that the core decides by.

use std::path::{Component, Path as FilePath};

use jiff::SignedDuration;
use kube::CustomResource;
use promotion_gate_core::calendar::{Exhausted, Series, Zone};
use promotion_gate_core::documents::{Fault, Path, decode_value};
use promotion_gate_core::gate::{
    Age, EventFilter, Feed, FeedKind, FeedPlace, Freeze, FreezeSource, FreezeWindow, Glob, MayPass,
    WhenStale,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::Written;
use super::faults::Faults;

/// The shortest `maximumAge`: a feed is asked every 10 seconds at most.
const SHORTEST_AGE: SignedDuration = SignedDuration::from_secs(12);
/// The most windows of a freeze.
const MAXIMUM_WINDOWS: usize = 500;

/// When changes of some environments have to wait, why, and what may pass. Exactly one of `windows`, `calendar`, `endpoint` and
/// `gitlab` says when.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::duplicated_attributes,
    reason = "each column has a name and a type"
)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "ChangeFreeze",
    plural = "changefreezes",
    shortname = "pgf",
    category = "promotion-gate",
    schema = "disabled",
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner"),
    printcolumn(
        name = "Frozen",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Frozen")].status"#
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeFreezeSpec {
    /// The environments that are frozen, as policies name them; `*` stands for any characters.
    #[schemars(length(min = 1, max = 100))]
    pub environments: Vec<Written<Glob>>,
    /// Why, for the deployer who has to wait.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
    /// Who decides about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub owner: Option<String>,
    /// What may pass besides the upkeep of what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_pass: Option<WrittenMayPass>,
    /// The zone of local times, by its IANA name, such as `Europe/Berlin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Written<Zone>>,
    /// The times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub windows: Option<Vec<Written<FreezeWindow>>>,
    /// A calendar that others keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<WrittenCalendar>,
    /// An endpoint of the change management that is asked every minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<WrittenEndpoint>,
    /// The deploy freeze periods of a GitLab project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<WrittenGitlab>,
}

/// What a freeze lets through besides upkeep.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenMayPass {
    /// A return to what ran before; `true` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<bool>,
    /// An emergency change, if the policy lets it waive `noFreeze`; `true` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<bool>,
}

/// An iCalendar file (RFC 5545), from exactly one of `url`, `urlFile` and `file`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenCalendar {
    /// Its HTTPS address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// A file that holds its HTTPS address, since such addresses are often secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub url_file: Option<String>,
    /// A file that holds the calendar. A path that is relative starts at the folder of this document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
    /// Which events are freezes; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<WrittenEvents>,
    /// How old the last answer may be; `24h` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_age: Option<Written<Age>>,
    /// What an older answer means; `Frozen` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_stale: Option<WrittenWhenStale>,
}

/// Which events of a calendar are freezes: those with one of the categories or summaries.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenEvents {
    /// Categories, in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub categories: Vec<String>,
    /// Summaries, in any case; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub summaries: Vec<Written<Glob>>,
    /// Whether tentative events count; `Count` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tentative: Option<WrittenTentative>,
}

/// What a tentative event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenTentative {
    /// A freeze.
    Count,
    /// Nothing.
    Ignore,
}

/// What a feed means that was not read for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WrittenWhenStale {
    /// A freeze.
    Frozen,
    /// Nothing: the operator accepts that a freeze can be missed.
    Open,
}

/// An endpoint that is asked with `?environment=…&at=…`, and answers `{"freeze_active": true, "reason": "…"}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenEndpoint {
    /// Its HTTPS address, without the two parameters.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// A file that holds the bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub token_file: Option<String>,
    /// How old the last answer may be; `15m` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_age: Option<Written<Age>>,
    /// What an older answer means; `Frozen` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_stale: Option<WrittenWhenStale>,
}

/// The deploy freeze periods of a GitLab project.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenGitlab {
    /// The address of the project, such as `https://gitlab.com/example/app`.
    #[schemars(length(min = 1, max = 2048))]
    pub project: String,
    /// A file that holds an access token with the scope `read_api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub token_file: Option<String>,
    /// How old the last answer may be; `24h` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_age: Option<Written<Age>>,
    /// What an older answer means; `Frozen` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_stale: Option<WrittenWhenStale>,
}

/// The freeze that a resource describes. Paths of files that are relative start at `folder`.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn freeze(
    name: &str,
    spec: &ChangeFreezeSpec,
    folder: &FilePath,
) -> Result<Freeze, Vec<Fault>> {
    let mut faults = Faults::default();
    let zone = faults.parsed(spec.time_zone.as_ref(), || key("timeZone"));
    let environments = faults.list(&spec.environments, &key("environments"));
    let environments: Vec<_> = environments.iter().map(across_segments).collect();
    if spec.reason.trim().is_empty() {
        faults.add(key("reason"), "the text is empty");
    }
    let sources = [
        spec.windows.is_some(),
        spec.calendar.is_some(),
        spec.endpoint.is_some(),
        spec.gitlab.is_some(),
    ];
    if sources.iter().filter(|given| **given).count() != 1 {
        let why = "expected exactly one of `windows`, `calendar`, `endpoint` and `gitlab`";
        faults.add(Path::default(), why);
    }
    let zone_is_known = spec.time_zone.is_none() || zone.is_some();
    let source = if let Some(windows) = &spec.windows {
        let windows = faults.windows(windows, zone.as_ref(), zone_is_known);
        Some(FreezeSource::Windows(windows))
    } else if let Some(calendar) = &spec.calendar {
        faults.calendar(calendar, zone, zone_is_known, folder)
    } else if let Some(endpoint) = &spec.endpoint {
        faults.endpoint(endpoint, &environments, folder)
    } else {
        spec.gitlab
            .as_ref()
            .and_then(|gitlab| faults.gitlab(gitlab, folder))
    };
    let may_pass = spec.may_pass.as_ref();
    match (faults.found.is_empty(), source) {
        (true, Some(source)) => computable(Freeze {
            name: name.to_owned(),
            environments,
            reason: spec.reason.trim().to_owned(),
            owner: spec.owner.clone(),
            may_pass: MayPass {
                rollback: may_pass.and_then(|may| may.rollback).unwrap_or(true),
                emergency: may_pass.and_then(|may| may.emergency).unwrap_or(true),
            },
            source,
        }),
        _ => Err(faults.found),
    }
}

/// The environments of a freeze whose `spec` cannot be read as a whole; all of them if they cannot be read either.
pub fn readable_environments(spec: &Value) -> Vec<Glob> {
    let written = spec.get("environments").cloned().unwrap_or_default();
    let read = decode_value::<Vec<Glob>>(&written).unwrap_or_default();
    match read.as_slice() {
        [] => Glob::parse("**").into_iter().collect(),
        some => some.iter().map(across_segments).collect(),
    }
}

/// Faults of the files that a freeze of a cluster names. A person who may write a freeze must not make the gate read or send a file of
/// its choice: files are below the folder of the configuration.
pub(super) fn files_elsewhere(spec: &ChangeFreezeSpec) -> Vec<Fault> {
    let calendar = spec.calendar.as_ref();
    let endpoint = spec.endpoint.as_ref();
    let gitlab = spec.gitlab.as_ref();
    let named = [
        (
            "calendar",
            "urlFile",
            calendar.and_then(|calendar| calendar.url_file.as_ref()),
        ),
        (
            "calendar",
            "file",
            calendar.and_then(|calendar| calendar.file.as_ref()),
        ),
        (
            "endpoint",
            "tokenFile",
            endpoint.and_then(|endpoint| endpoint.token_file.as_ref()),
        ),
        (
            "gitlab",
            "tokenFile",
            gitlab.and_then(|gitlab| gitlab.token_file.as_ref()),
        ),
    ];
    let is_elsewhere = |file: &str| {
        let mut components = FilePath::new(file).components();
        !components.all(|component| matches!(component, Component::Normal(_)))
    };
    let elsewhere = named.into_iter().filter_map(|(source, field, file)| {
        let path = key(source).key(field);
        let message = "a freeze in the cluster names files below the folder of the gate's configuration: expected a relative path without `..`";
        file.filter(|file| is_elsewhere(file)).map(|_| Fault {
            path,
            message: message.to_owned(),
        })
    });
    elsewhere.collect()
}

/// The freeze, unless its rules need too much work.
fn computable(freeze: Freeze) -> Result<Freeze, Vec<Fault>> {
    let refused = |error: Exhausted| {
        vec![Fault {
            path: key("windows"),
            message: error.to_string(),
        }]
    };
    freeze.check_work().map_err(refused)?;
    Ok(freeze)
}

fn key(name: &str) -> Path {
    Path::default().key(name)
}

impl Faults {
    fn windows(
        &mut self,
        written: &[Written<FreezeWindow>],
        zone: Option<&Zone>,
        zone_is_known: bool,
    ) -> Vec<Series> {
        let list = key("windows");
        if !(1..=MAXIMUM_WINDOWS).contains(&written.len()) {
            self.add(
                list.clone(),
                format!("expected 1 to {MAXIMUM_WINDOWS} windows"),
            );
        }
        let mut series = Vec::new();
        for (index, window) in written.iter().take(MAXIMUM_WINDOWS).enumerate() {
            let here = list.index(index);
            let Some(window) = self.parsed(Some(window), || here.clone()) else {
                continue;
            };
            // A zone that could not be read is reported once, and not at each window.
            if zone_is_known {
                series.extend(self.kept(window.series(zone), &here));
            }
        }
        series
    }

    fn feed(
        &mut self,
        kind: Option<FeedKind>,
        here: &Path,
        maximum_age: Option<&Written<Age>>,
        default: SignedDuration,
        when_stale: Option<WrittenWhenStale>,
    ) -> Option<FreezeSource> {
        let age = self.parsed(maximum_age, || here.key("maximumAge"));
        if age.is_some_and(|age| age.duration() < SHORTEST_AGE) {
            let why = "a feed is asked every 10 seconds at most: expected `12s` or more";
            self.add(here.key("maximumAge"), why);
        }
        Some(FreezeSource::Feed(Feed {
            kind: kind?,
            maximum_age: age.map_or(default, Age::duration),
            when_stale: match when_stale {
                Some(WrittenWhenStale::Open) => WhenStale::Open,
                Some(WrittenWhenStale::Frozen) | None => WhenStale::Frozen,
            },
        }))
    }

    fn calendar(
        &mut self,
        written: &WrittenCalendar,
        zone: Option<Zone>,
        zone_is_known: bool,
        folder: &FilePath,
    ) -> Option<FreezeSource> {
        let here = key("calendar");
        if zone.is_none() && zone_is_known {
            self.add(
                Path::default(),
                "`timeZone` is missing: the zone of whole days, and of times without a zone, in the calendar",
            );
        }
        let place = match (&written.url, &written.url_file, &written.file) {
            (Some(url), None, None) => {
                self.address(url, here.key("url"));
                Some(FeedPlace::Url(url.clone()))
            }
            (None, Some(file), None) => Some(FeedPlace::UrlFile(below(folder, file))),
            (None, None, Some(file)) => Some(FeedPlace::File(below(folder, file))),
            _ => {
                self.add(
                    here.clone(),
                    "expected exactly one of `url`, `urlFile` and `file`",
                );
                None
            }
        };
        let events = written.events.as_ref();
        let events = EventFilter {
            categories: events
                .map(|events| events.categories.clone())
                .unwrap_or_default(),
            summaries: events.map_or_else(Vec::new, |events| {
                let written = self.list(&events.summaries, &here.key("events").key("summaries"));
                let lower = |glob| across_segments(glob).to_string().to_lowercase();
                let each = written.iter().map(lower);
                each.filter_map(|lower| Glob::parse(&lower).ok()).collect()
            }),
            ignore_tentative: events.and_then(|events| events.tentative)
                == Some(WrittenTentative::Ignore),
        };
        let kind = place.zip(zone).map(|(place, zone)| FeedKind::Calendar {
            place,
            zone,
            events,
        });
        let day = SignedDuration::from_hours(24);
        self.feed(
            kind,
            &here,
            written.maximum_age.as_ref(),
            day,
            written.when_stale,
        )
    }

    fn endpoint(
        &mut self,
        written: &WrittenEndpoint,
        environments: &[Glob],
        folder: &FilePath,
    ) -> Option<FreezeSource> {
        let here = key("endpoint");
        self.address(&written.url, here.key("url"));
        let patterns = environments.iter().enumerate();
        for (index, _) in patterns.filter(|(_, glob)| glob.to_string().contains('*')) {
            let why =
                "an endpoint is asked for each environment by name: expected a name without `*`";
            self.add(key("environments").index(index), why);
        }
        let kind = FeedKind::Endpoint {
            url: written.url.clone(),
            token_file: written.token_file.as_ref().map(|file| below(folder, file)),
        };
        let minutes = SignedDuration::from_mins(15);
        self.feed(
            Some(kind),
            &here,
            written.maximum_age.as_ref(),
            minutes,
            written.when_stale,
        )
    }

    fn gitlab(&mut self, written: &WrittenGitlab, folder: &FilePath) -> Option<FreezeSource> {
        let here = key("gitlab");
        self.address(&written.project, here.key("project"));
        let kind = FeedKind::Gitlab {
            project: written.project.clone(),
            token_file: written.token_file.as_ref().map(|file| below(folder, file)),
        };
        let day = SignedDuration::from_hours(24);
        self.feed(
            Some(kind),
            &here,
            written.maximum_age.as_ref(),
            day,
            written.when_stale,
        )
    }

    fn address(&mut self, url: &str, here: Path) {
        let parsed = Url::parse(url);
        let is_web = |url: &Url| {
            matches!(url.scheme(), "https" | "http")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        };
        if !parsed.as_ref().is_ok_and(is_web) {
            self.add(
                here,
                "expected an address such as `https://example.com/path`, without a user name",
            );
        }
    }
}

/// The pattern with every `*` matching any characters: in these texts a `/` separates nothing.
fn across_segments(glob: &Glob) -> Glob {
    let written = glob.to_string().replace("**", "*").replace('*', "**");
    Glob::parse(&written).unwrap_or_else(|_| glob.clone())
}

/// A path that starts at a folder if it is relative.
fn below(folder: &FilePath, file: &str) -> String {
    folder.join(file).display().to_string()
}
