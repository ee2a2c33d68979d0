//! `PeopleDirectory` as written, and the one conversion into the directory that the core merges.

use kube::CustomResource;
use promotion_gate_core::documents::{Document, Fault, Path, Problem, decode_value};
use promotion_gate_core::gate::{
    Automation, Contradiction, Directory, DnsLabel, Group, Identity, Member, Moment, People,
    Person, PersonalIdentity, Place, Validity,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Written;

/// The most faults that are reported of one directory.
const MAXIMUM_FAULTS: usize = 200;

/// Who is who: people with their identities, groups of people, and automation. Several directories count as one.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "promotion-gate.dev",
    version = "v1alpha1",
    kind = "PeopleDirectory",
    plural = "peopledirectories",
    shortname = "pgd",
    category = "promotion-gate",
    schema = "disabled",
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
pub struct PeopleDirectorySpec {
    /// The people. Only their identities fill seats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<WrittenPerson>,
    /// Groups of people. A group that several directories describe has the members of all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<WrittenGroup>,
    /// Bots, pipelines and service accounts. They write changes and never approve any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub automation: Vec<WrittenAutomation>,
}

/// A person.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenPerson {
    /// The name in the directory, which denials and records show: at most 63 lower-case letters, digits and `-`.
    pub name: Written<DnsLabel>,
    /// The name for people to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub display_name: Option<String>,
    /// Every identity of the person, each with exactly one of `certificate`, `github`, `gitlab`, `kubernetes` and `key`.
    #[schemars(length(min = 1, max = 64))]
    pub identities: Vec<Written<PersonalIdentity>>,
    /// The first day (in UTC), or the first instant, on which the person counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Written<Moment>>,
    /// The last day (in UTC) on which the person counts, or the first instant at which not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Written<Moment>>,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenGroup {
    /// The name, which policies name: at most 63 lower-case letters, digits and `-`.
    pub name: Written<DnsLabel>,
    /// The members: a person's name, or `person` with `from` and `until`.
    #[schemars(with = "Vec<MemberEntry>")]
    pub members: Vec<Written<MemberFields>>,
}

/// A person's name, or a person for some time.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum MemberEntry {
    Name(DnsLabel),
    Period(MemberFields),
}

/// A person who is a member for some time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberFields {
    /// The name of a person of any directory.
    person: DnsLabel,
    /// The first day (in UTC), or the first instant, of the membership.
    from: Option<Moment>,
    /// The last day (in UTC) of the membership, or the first instant after it.
    until: Option<Moment>,
}

/// A bot, a pipeline or a service account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenAutomation {
    /// The name in the directory: at most 63 lower-case letters, digits and `-`.
    pub name: Written<DnsLabel>,
    /// Every identity of it, as those of people.
    #[schemars(length(min = 1, max = 64))]
    pub identities: Vec<Written<Identity>>,
}

/// The directory that a resource describes.
///
/// # Errors
/// What is wrong with the resource, each with its path below `spec`.
pub fn directory(spec: &PeopleDirectorySpec) -> Result<Directory, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut directory = Directory::default();
    for (here, written) in entries("people", &spec.people) {
        let identities = parse_all(&written.identities, &here.key("identities"), &mut faults);
        let [from, until] =
            [("from", &written.from), ("until", &written.until)].map(|(key, moment)| {
                let moment = moment.as_ref();
                moment.and_then(|moment| parse(moment, || here.key(key), &mut faults))
            });
        let validity = kept(
            Validity::new(from, until),
            || here.key("until"),
            &mut faults,
        );
        let name = parse(&written.name, || here.key("name"), &mut faults);
        directory.people.extend(name.map(|name| Person {
            name: name.into_string(),
            display_name: written.display_name.clone(),
            identities,
            validity: validity.unwrap_or_default(),
        }));
    }
    for (here, written) in entries("groups", &spec.groups) {
        let members = here.key("members");
        let each = written.members.iter().enumerate();
        let each = each.filter_map(|(index, entry)| {
            let read = member(entry).map_err(|Fault { path, message }| Fault {
                path: members.index(index).join(&path),
                message,
            });
            read.map_err(|fault| faults.push(fault)).ok()
        });
        let members = each.collect();
        let name = parse(&written.name, || here.key("name"), &mut faults);
        directory.groups.extend(name.map(|name| Group {
            name: name.into_string(),
            members,
        }));
    }
    for (here, written) in entries("automation", &spec.automation) {
        let identities = parse_all(&written.identities, &here.key("identities"), &mut faults);
        let name = parse(&written.name, || here.key("name"), &mut faults);
        directory.automation.extend(name.map(|name| Automation {
            name: name.into_string(),
            identities,
        }));
    }
    match faults.is_empty() {
        true => Ok(directory),
        false => {
            faults.truncate(MAXIMUM_FAULTS);
            Err(faults)
        }
    }
}

fn entries<'a, T>(list: &str, written: &'a [T]) -> impl Iterator<Item = (Path, &'a T)> {
    let list = Path::default().key(list);
    let each = written.iter().enumerate();
    each.map(move |(index, entry)| (list.index(index), entry))
}

fn member(entry: &Written<MemberFields>) -> Result<Member, Fault> {
    if entry.value().is_string() {
        let person: DnsLabel = decode_value(entry.value())?;
        return Ok(Member {
            person: person.into_string(),
            validity: Validity::default(),
        });
    }
    let MemberFields {
        person,
        from,
        until,
    } = entry.parse()?;
    let validity = Validity::new(from, until).map_err(|message| Fault {
        path: Path::default().key("until"),
        message,
    })?;
    Ok(Member {
        person: person.into_string(),
        validity,
    })
}

fn parse_all<T: DeserializeOwned>(
    written: &[Written<T>],
    here: &Path,
    faults: &mut Vec<Fault>,
) -> Vec<T> {
    let each = written.iter().enumerate();
    let each = each.filter_map(|(index, part)| parse(part, || here.index(index), faults));
    each.collect()
}

fn parse<T: DeserializeOwned>(
    written: &Written<T>,
    here: impl FnOnce() -> Path,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let read = written.parse();
    let read = read.map_err(|Fault { path, message }| Fault {
        path: here().join(&path),
        message,
    });
    read.map_err(|fault| faults.push(fault)).ok()
}

fn kept<T>(
    read: Result<T, String>,
    here: impl FnOnce() -> Path,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let read = read.map_err(|message| Fault {
        path: here(),
        message,
    });
    read.map_err(|fault| faults.push(fault)).ok()
}

/// The people directories of some files, each with its document.
#[derive(Default)]
pub(super) struct Directories {
    documents: Vec<Document>,
    read: Vec<Directory>,
    /// Whether a directory could not be read.
    is_incomplete: bool,
}

impl Directories {
    pub(super) fn add(&mut self, document: Document, directory: Directory) {
        self.documents.push(document);
        self.read.push(directory);
    }

    /// Notes that a directory could not be read.
    pub(super) fn miss_one(&mut self) {
        self.is_incomplete = true;
    }

    /// All of them as one; `None` if there is no directory.
    pub(super) fn merge(self) -> Result<Option<People>, Vec<Problem>> {
        if self.read.is_empty() {
            return Ok(None);
        }
        People::merge(&self.read)
            .map(Some)
            .map_err(|contradictions| {
                // A member that is missing may be described in a directory that could not be read.
                let certain = |found: &&Contradiction| found.other.is_some() || !self.is_incomplete;
                let each = contradictions.iter().filter(certain);
                each.filter_map(|found| self.problem(found)).collect()
            })
    }

    fn problem(&self, found: &Contradiction) -> Option<Problem> {
        let at = |place: &Place, message: String| {
            let document = self.documents.get(place.directory)?;
            Some(document.problem(Path::default().key("spec").join(&place.path), message))
        };
        let other = found
            .other
            .as_ref()
            .and_then(|other| at(other, String::new()));
        let message = match other {
            Some(Problem {
                file, line, column, ..
            }) => {
                format!("{}: see {file}:{line}:{column}", found.message)
            }
            None => found.message.clone(),
        };
        let problem = at(&found.at, message)?;
        Some(Problem {
            suggestion: found.suggestion.clone(),
            ..problem
        })
    }
}
