//! `people`: looks into people directories: whether they can be used, who an identity belongs to, who is in a group.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use jiff::Timestamp;
use promotion_gate_core::attest::PublicKey;
use promotion_gate_core::documents::{Problem, nearest};
use promotion_gate_core::gate::{Identity, Lookup, People, Person, SourcePlatform, Validity};
use serde_json::{Value, json};

use super::check::instant;
use super::cluster::FromCluster;
use super::out::write_json;
use super::render::Output;
use super::world;
use crate::api::{Kind, PolicyFiles};
use crate::config::Config;
use crate::files::read_file;
use crate::snapshot::Once;

/// The version of the JSON output.
const VERSION: &str = "promotion-gate.dev/people/v1alpha1";
/// The largest file with a key, in bytes.
const MAXIMUM_KEY: u64 = 64 << 10;
/// Nobody in the directory has the identity.
const NOT_LISTED: u8 = 2;

/// Look into people directories: who is who, and who is in a group
///
/// Exit codes: 0 success, 1 wrong usage, a directory that cannot be used or a failure of the tool, 2 (`who`) the identity is not in
/// the directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  promotion-gate people check policies/
  promotion-gate people who alice@example.com policies/
  promotion-gate people who github:alice policies/
  promotion-gate people list --group security-team policies/
  promotion-gate people check --from-cluster")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check people directories, all of them together, and count what is in them
    Check {
        #[command(flatten)]
        given: Given,
    },
    /// Say who has an identity, and the groups of that person
    #[command(after_help = "\
An identity is written as:
  alice@example.com, https://…            the name in a certificate; `--issuer` narrows it to one issuer
  github:alice, github:HOST/alice#1234    an account on GitHub; `gitlab:` likewise
  kubernetes:alice@example.com            a user of Kubernetes
  alice.pub                               a file with a public key (PEM)
  alice                                   the name of a person in the directory")]
    Who {
        /// The identity, or the name of a person
        identity: String,
        #[command(flatten)]
        given: Given,
        /// The issuer of the certificate; any issuer that the directory names when absent
        #[arg(long, value_name = "URL")]
        issuer: Option<String>,
        /// The time at which the person and the memberships have to be valid; now when absent
        #[arg(long, value_name = "TIME", value_parser = instant)]
        at: Option<Timestamp>,
    },
    /// List people with their groups, or the members of a group
    List {
        #[command(flatten)]
        given: Given,
        /// Only the members of this group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Only those who are valid at this time; everybody when absent
        #[arg(long, value_name = "TIME", value_parser = instant)]
        at: Option<Timestamp>,
    },
}

// The directories that a command reads, and how it answers.
#[derive(Debug, clap::Args)]
struct Given {
    /// People directories: files or folders, which may hold policies too
    #[arg(required_unless_present = "from_cluster", value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from_cluster: FromCluster,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let given = match &args.command {
        Command::Check { given } | Command::Who { given, .. } | Command::List { given, .. } => {
            given
        }
    };
    let (read, output) = (read(given).await?, given.output);
    match args.command {
        Command::Check { .. } => check(output, read),
        Command::Who {
            identity,
            issuer,
            at,
            ..
        } => who(
            &*read.map_err(refused)?,
            output,
            &identity,
            issuer.as_deref(),
            at.unwrap_or_else(Timestamp::now),
        ),
        Command::List { group, at, .. } => {
            list(&*read.map_err(refused)?, output, group.as_deref(), at)
        }
    }
}

/// The people of all directories, or everything that is wrong with these.
type Read = Result<Arc<People>, Vec<Problem>>;

fn check(output: Output, read: Read) -> anyhow::Result<ExitCode> {
    let people = read.as_ref().ok();
    let counts = [
        ("people", people.map_or(0, |people| people.people().len())),
        ("groups", people.map_or(0, |people| people.groups().count())),
        (
            "automation",
            people.map_or(0, |people| people.automation().len()),
        ),
    ];
    match (output, read) {
        (Output::Human, read) => {
            read.map_err(refused)?;
            let counts = counts.map(|(what, count)| format!("{what}: {count}"));
            print_line!("{}", counts.join(", "));
            Ok(ExitCode::SUCCESS)
        }
        (Output::Json, read) => {
            let problems = read.err().unwrap_or_default();
            let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let [people, groups, automation] = counts.map(|(_, count)| count);
            write_json(&json!({
                "version": VERSION, "problems": shown,
                "people": people, "groups": groups, "automation": automation,
            }))?;
            match problems.is_empty() {
                true => Ok(ExitCode::SUCCESS),
                false => Ok(ExitCode::from(super::FAILURE)),
            }
        }
    }
}

fn who(
    people: &People,
    output: Output,
    written: &str,
    issuer: Option<&str>,
    at: Timestamp,
) -> anyhow::Result<ExitCode> {
    let found = find(people, written, issuer)?;
    let suggestion = match found {
        Found::Nobody => near(people, written),
        _ => None,
    };
    if output == Output::Json {
        write_json(&match &found {
            Found::Person(person) => {
                json!({"version": VERSION, "found": "person", "person": described(people, person, at)})
            }
            Found::Automation(name) => {
                json!({"version": VERSION, "found": "automation", "automation": name})
            }
            Found::Similar(person) => {
                json!({"version": VERSION, "found": "similar", "person": described(people, person, at)})
            }
            Found::Nobody => {
                json!({"version": VERSION, "found": null, "suggestion": suggestion})
            }
        })?;
    } else {
        match &found {
            Found::Person(person) => show(people, person, at),
            Found::Automation(name) => {
                print_line!("{name}: automation, which approves nothing");
            }
            Found::Similar(person) => print_line!(
                "not in the directory: `{written}` is similar to an identity of `{}`; it fills no seat, and counts as `{}` among authors; list it if it is theirs",
                person.name,
                person.name
            ),
            Found::Nobody => {
                let suggestion = suggestion.map(|near| format!(", did you mean `{near}`?"));
                print_line!(
                    "not in the directory: `{written}`{}",
                    suggestion.unwrap_or_default()
                );
            }
        }
    }
    Ok(match found {
        Found::Person(_) | Found::Automation(_) => ExitCode::SUCCESS,
        Found::Similar(_) | Found::Nobody => ExitCode::from(NOT_LISTED),
    })
}

fn list(
    people: &People,
    output: Output,
    group: Option<&str>,
    at: Option<Timestamp>,
) -> anyhow::Result<ExitCode> {
    if let Some(group) = group.filter(|group| !people.group_exists(group)) {
        match nearest(group, people.groups()) {
            Some(near) => bail!("there is no group `{group}`, did you mean `{near}`?"),
            None => bail!("there is no group `{group}`; `people list` shows the groups"),
        }
    }
    let is_listed = |person: &&Person| match (group, at) {
        (Some(group), Some(at)) => people.is_member(group, person, at),
        (Some(group), None) => people.memberships(person).any(|(own, _)| own == group),
        (None, Some(at)) => person.is_active_at(at),
        (None, None) => true,
    };
    let listed = people.people().iter().filter(is_listed);
    let now = at.unwrap_or_else(Timestamp::now);
    match output {
        Output::Human => listed.for_each(|person| {
            let groups = people.memberships(person);
            let groups: Vec<_> = groups
                .map(|(group, periods)| in_group(group, periods))
                .collect();
            let validity = match person.validity == Validity::default() {
                true => String::new(),
                false => format!(" [{}]", person.validity),
            };
            print_line!("{}{validity}: {}", titled(person), or_none(&groups));
        }),
        Output::Json => {
            let listed: Vec<_> = listed
                .map(|person| described(people, person, now))
                .collect();
            let automation: Vec<_> = people.automation().iter().map(|one| &one.name).collect();
            write_json(&json!({"version": VERSION, "people": listed, "automation": automation}))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(given: &Given) -> anyhow::Result<Read> {
    let live = given.from_cluster.read(&[Kind::PeopleDirectory]).await?;
    let resources = live.map(|live| live.resources).unwrap_or_default();
    let of_cluster = Once::of(&[], &resources, &Config::load(None)?);
    for refused in of_cluster.refused() {
        print_error!("warning: {refused}");
    }
    let files = PolicyFiles::read(&given.paths);
    let set = files.load_people(&of_cluster.counting());
    let missing = || {
        let first = given.paths.first().map(|path| path.display().to_string());
        let why = "there is no `PeopleDirectory` in it";
        vec![Problem::with_file(
            &first.unwrap_or_else(|| "the cluster".to_owned()),
            why,
        )]
    };
    Ok(match set.problems.is_empty() {
        true => set.people.ok_or_else(missing),
        false => Err(set.problems),
    })
}

fn refused(problems: Vec<Problem>) -> anyhow::Error {
    anyhow::anyhow!(
        "the people directory cannot be used:\n{}",
        world::lines(&problems)
    )
}

/// Whose an identity is.
enum Found<'a> {
    Person(&'a Person),
    Automation(&'a str),
    Similar(&'a Person),
    Nobody,
}

fn find<'a>(people: &'a People, written: &str, issuer: Option<&str>) -> anyhow::Result<Found<'a>> {
    if let Some(person) = people.person(written) {
        return Ok(Found::Person(person));
    }
    let mut automation = people.automation().iter();
    if let Some(found) = automation.find(|automation| automation.name == written) {
        return Ok(Found::Automation(&found.name));
    }
    let mut best = Found::Nobody;
    for identity in asked(people, written, issuer)? {
        match people.person_of(&identity) {
            Lookup::Person(person) => return Ok(Found::Person(person)),
            Lookup::Automation(name) => return Ok(Found::Automation(name)),
            Lookup::Similar(person) => best = Found::Similar(person),
            Lookup::Unknown => {}
        }
    }
    Ok(best)
}

/// The identities that a text can mean: several for the name in a certificate whose issuer is not given.
fn asked(people: &People, written: &str, issuer: Option<&str>) -> anyhow::Result<Vec<Identity>> {
    for (prefix, platform) in [
        ("github:", SourcePlatform::GitHub),
        ("gitlab:", SourcePlatform::GitLab),
    ] {
        if let Some(account) = written.strip_prefix(prefix) {
            let (account, id) = match account.split_once('#') {
                Some((account, id)) => {
                    let number = id.parse::<u64>();
                    let number = number
                        .with_context(|| format!("`{written}`: the id `{id}` is not a number"))?;
                    (account, Some(number))
                }
                None => (account, None),
            };
            let (host, login) = match account.rsplit_once('/') {
                Some((host, login)) => (Some(host), login),
                None => (None, account),
            };
            let account = Identity::account(platform, host, login, id);
            return Ok(vec![account.map_err(anyhow::Error::msg)?]);
        }
    }
    if let Some(user) = written.strip_prefix("kubernetes:") {
        return Ok(vec![Identity::KubernetesUser(user.to_owned())]);
    }
    if Path::new(written).is_file() {
        let bytes = read_file(Path::new(written), MAXIMUM_KEY);
        let bytes = bytes.with_context(|| format!("`{written}` cannot be read"))?;
        let key = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
        let key = key.with_context(|| format!("`{written}` is not a public key"))?;
        return Ok(vec![Identity::Key(key.fingerprint().clone())]);
    }
    if !written.contains(['@', '!']) && !written.contains("://") {
        bail!(
            "`{written}` is neither a person of the directory nor an identity; write an e-mail address, a URI, `github:LOGIN`, `gitlab:LOGIN`, `kubernetes:USER`, or the path of a public key"
        );
    }
    let issuers: BTreeSet<&str> = match issuer {
        Some(issuer) => [issuer].into(),
        None => every(people)
            .filter_map(|identity| match identity {
                Identity::Certificate { issuer, .. } => Some(issuer.as_str()),
                _ => None,
            })
            .collect(),
    };
    let certificate = |issuer: &str| Identity::Certificate {
        issuer: issuer.to_owned(),
        name: written.to_owned(),
    };
    Ok(issuers.into_iter().map(certificate).collect())
}

fn every(people: &People) -> impl Iterator<Item = &Identity> {
    let of_people = people.people().iter().flat_map(Person::identities);
    let automation = people.automation().iter();
    of_people.chain(automation.flat_map(|automation| &automation.identities))
}

/// The listed identity that a text resembles.
fn near(people: &People, written: &str) -> Option<String> {
    let known: Vec<String> = every(people)
        .map(|identity| match identity {
            Identity::Certificate { name, .. } => name.clone(),
            other => other.to_string().trim_matches('`').to_owned(),
        })
        .collect();
    let names = people.people().iter().map(|person| person.name.as_str());
    nearest(written, known.iter().map(String::as_str).chain(names))
}

fn show(people: &People, person: &Person, at: Timestamp) {
    print_line!("{}", titled(person));
    let state = match person.is_active_at(at) {
        true => "",
        false => ", not valid at this time",
    };
    print_line!("  valid:  {}{state}", person.validity);
    let groups: Vec<_> = people
        .memberships(person)
        .map(
            |(group, periods)| match people.is_member(group, person, at) {
                true => in_group(group, periods),
                false => format!("{}, not at this time", in_group(group, periods)),
            },
        )
        .collect();
    print_line!("  groups: {}", or_none(&groups));
    for identity in person.identities() {
        print_line!("  {identity}");
    }
}

fn titled(person: &Person) -> String {
    match &person.display_name {
        Some(display) => format!("{} ({display})", person.name),
        None => person.name.clone(),
    }
}

fn in_group(group: &str, periods: &[Validity]) -> String {
    match periods {
        [always] if *always == Validity::default() => group.to_owned(),
        periods => {
            let periods: Vec<_> = periods.iter().map(ToString::to_string).collect();
            format!("{group} ({})", periods.join("; "))
        }
    }
}

fn or_none(groups: &[String]) -> String {
    match groups.is_empty() {
        true => "no group".to_owned(),
        false => groups.join(", "),
    }
}

fn described(people: &People, person: &Person, at: Timestamp) -> Value {
    let period = |validity: &Validity| json!({"from": validity.from(), "until": validity.until()});
    let groups: Vec<_> = people
        .memberships(person)
        .map(|(group, periods)| {
            let periods: Vec<_> = periods.iter().map(period).collect();
            json!({"group": group, "periods": periods, "valid": people.is_member(group, person, at)})
        })
        .collect();
    let identities = person.identities().map(ToString::to_string);
    let identities: Vec<_> = identities.map(|text| text.replace('`', "")).collect();
    json!({
        "name": person.name, "displayName": person.display_name, "identities": identities,
        "period": period(&person.validity), "valid": person.is_active_at(at), "groups": groups,
    })
}
