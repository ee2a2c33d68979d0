//! Reading the authors of a change from GitHub and GitLab, and what is done with answers that lack something or lie.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use promotion_gate::connect::{ChangeQuestion, ConnectError, ConnectedPlatform, change};
use promotion_gate_core::attest::predicate::{ChangeRecord, ChangeRole};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::run;
use crate::oci::options;
use crate::server::{Manner, Reply, Seen, Server};

const APP: &str = "/api/v3/repos/example/app";
const PROJECT: &str = "/api/v4/projects/99";

fn sha(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn user(login: &str, id: u64) -> Value {
    json!({"login": login, "id": id, "type": "User"})
}

fn commit(name: char, parents: &[char], author: Value) -> Value {
    let parents: Vec<_> = parents.iter().map(|it| json!({"sha": sha(*it)})).collect();
    json!({
        "sha": sha(name), "author": author, "committer": user("web-flow", 19864447), "parents": parents,
        "commit": {"author": {"name": "Somebody", "email": "somebody@example.com"}, "verification": {"verified": true}},
    })
}

fn side(branch: &str, name: char, repository: u64) -> Value {
    json!({"ref": branch, "sha": sha(name), "repo": {"id": repository, "full_name": "example/app"}})
}

fn pull(number: u64, head: Value, commits: usize) -> Value {
    json!({
        "number": number, "html_url": format!("https://github.com/example/app/pull/{number}"), "merged": true,
        "merged_at": "2026-11-01T00:00:00Z", "user": user("alice", 1), "merged_by": user("bob", 2), "commits": commits,
        "base": side("main", 'a', 99), "head": head,
    })
}

fn activity(kind: &str, branch: &str, before: char, after: char, actor: Value) -> Value {
    json!({
        "ref": format!("refs/heads/{branch}"), "before": sha(before), "after": sha(after), "activity_type": kind, "actor": actor,
    })
}

/// What a platform answers, by path; a query selects an entry of its own.
type Answers = BTreeMap<String, Value>;

/// One squashed pull request: `b` on main, made of `d` by Alice and Carol.
fn squashed() -> Answers {
    let answers = [
        (
            "",
            json!({"id": 99, "full_name": "example/app", "default_branch": "main"}),
        ),
        (
            &format!("/compare/{}...{}", sha('a'), sha('b')),
            json!({"status": "ahead", "total_commits": 1, "base_commit": {"sha": sha('a')}, "commits": [commit('b', &['a'], user("alice", 1))]}),
        ),
        (
            &format!("/commits/{}/pulls", sha('b')),
            json!([pull(12, side("feature", 'd', 99), 1)]),
        ),
        ("/pulls/12", pull(12, side("feature", 'd', 99), 1)),
        (
            "/pulls/12/commits",
            json!([commit('d', &['a'], user("carol", 3))]),
        ),
        (
            "/pulls/12/reviews",
            json!([{"state": "APPROVED", "user": user("dave", 4)}, {"state": "COMMENTED", "user": user("erin", 5)}, {"state": "APPROVED", "user": null}]),
        ),
        (
            "/activity?ref=refs/heads/feature",
            json!([
                activity("branch_deletion", "feature", 'd', '0', user("bob", 2)),
                activity("force_push", "feature", 'c', 'd', user("frank", 6)),
                activity("push", "feature", '1', 'c', user("grace", 7)),
                activity("branch_creation", "feature", '0', '1', user("heidi", 8)),
            ]),
        ),
        (
            "/activity?ref=refs/heads/main",
            json!([activity("pr_merge", "main", 'a', 'b', user("bob", 2))]),
        ),
    ];
    answers
        .map(|(path, value)| (format!("{APP}{path}"), value))
        .into()
}

fn reply(answers: &Answers, seen: &Seen) -> Reply {
    let path = seen
        .path
        .replace("&per_page=100", "")
        .replace("%2F", "/")
        .replace("%5B%5D", "[]");
    let (bare, _) = path.split_once('?').unwrap_or((&path, ""));
    let found = answers.get(&path).or_else(|| answers.get(bare));
    match found {
        Some(value) => Reply::new(200, "application/json", value.to_string()),
        None => Reply::new(404, "application/json", r#"{"message": "Not Found"}"#),
    }
}

async fn serve(answers: Answers) -> Server {
    Server::start(move |seen| reply(&answers, seen)).await
}

fn question(server: &Server, platform: ConnectedPlatform) -> ChangeQuestion {
    ChangeQuestion {
        platform,
        host: server.host(),
        path: "example/app".to_owned(),
        from: sha('a'),
        to: sha('b').parse().unwrap(),
        branch: None,
        token: Some("secret".to_owned()),
        patience: Duration::from_secs(3),
    }
}

async fn ask(server: &Server, platform: ConnectedPlatform) -> Result<ChangeRecord, ConnectError> {
    let record = change(&question(server, platform), &options(), |_| {}).await?;
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(ChangeRecord::read(&json).as_ref(), Ok(&record));
    Ok(record)
}

async fn github(answers: Answers) -> Result<ChangeRecord, ConnectError> {
    ask(&serve(answers).await, ConnectedPlatform::Github).await
}

/// `role identity` of every author, without the host of the test.
fn authors(record: &ChangeRecord) -> Vec<String> {
    let row = |author: &promotion_gate_core::attest::predicate::ChangeAuthor| {
        let identity = author.identity.to_string();
        let name = identity
            .rsplit_once('/')
            .map_or(identity.as_str(), |it| it.1);
        format!("{:?} {name}", author.role).to_lowercase()
    };
    let mut rows: Vec<_> = record.authors.iter().map(row).collect();
    rows.sort();
    rows.dedup();
    rows
}

#[tokio::test]
async fn a_squashed_pull_request_names_everybody_who_touched_it() {
    let server = serve(squashed()).await;
    let record = ask(&server, ConnectedPlatform::Github).await.unwrap();
    assert_eq!(record.unknown_authors, Vec::<String>::new());
    assert_eq!(
        authors(&record),
        [
            "committed alice",
            "committed carol",
            "merged bob",
            "opened alice",
            "pushed frank",
            "pushed grace",
            "pushed heidi",
        ]
    );
    assert_eq!(record.reviewers.len(), 1);
    assert_eq!(record.repository.id.as_deref(), Some("99"));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.headers["authorization"] == "Bearer secret")
    );
}

#[tokio::test]
async fn a_commit_without_a_pull_request_is_by_the_user_who_pushed_it() {
    let mut answers = squashed();
    answers.insert(format!("{APP}/commits/{}/pulls", sha('b')), json!([]));
    let push = |actor| json!([activity("push", "main", 'a', 'b', actor)]);
    answers.insert(
        format!("{APP}/activity?ref=refs/heads/main"),
        push(user("mallory", 9)),
    );
    let record = github(answers.clone()).await.unwrap();
    assert!(record.complete);
    assert_eq!(authors(&record), ["committed alice", "pushed mallory"]);
    for pushes in [json!([]), push(Value::Null), push(user("ghost", 10137))] {
        answers.insert(format!("{APP}/activity?ref=refs/heads/main"), pushes);
        assert!(!github(answers.clone()).await.unwrap().complete);
    }
    // A pull request that was never merged, or merged elsewhere, did not bring it.
    let mut open = pull(12, side("feature", 'd', 99), 1);
    open["merged_at"] = Value::Null;
    let mut elsewhere = pull(12, side("feature", 'd', 99), 1);
    elsewhere["base"] = side("main", 'a', 98);
    answers.insert(
        format!("{APP}/commits/{}/pulls", sha('b')),
        json!([open, elsewhere]),
    );
    let record = github(answers).await.unwrap();
    assert!(!record.complete && record.pull_requests.is_empty());
}

#[tokio::test]
async fn an_author_whom_github_does_not_name_makes_the_record_incomplete() {
    let feature = format!("{APP}/activity?ref=refs/heads/feature");
    let pulls = format!("{APP}/pulls/12");
    let changed = |path: &str, field: &str, value: Value| {
        let mut answers = squashed();
        *answers.get_mut(path).unwrap().pointer_mut(field).unwrap() = value;
        answers
    };
    for (answers, why) in [
        (
            changed(&pulls, "/user", Value::Null),
            "opened by an account that is deleted",
        ),
        (
            changed(&pulls, "/user", json!({})),
            "opened by an account that is deleted",
        ),
        (
            changed(&pulls, "/user", user("ghost", 10137)),
            "opened by an account that is deleted",
        ),
        (
            changed(&pulls, "/merged_by", Value::Null),
            "merged by an account that is deleted",
        ),
        (
            changed(&pulls, "/head", side("feature", 'd', 7)),
            "comes from a fork",
        ),
        (
            changed(&pulls, "/head/repo", Value::Null),
            "comes from a fork",
        ),
        (changed(&pulls, "/commits", json!(300)), "1 of 300 commits"),
        (
            changed(&pulls, "/head/sha", json!(sha('e'))),
            "who pushed its last commit",
        ),
        (
            changed(
                &feature,
                "/3",
                activity("push", "feature", 'c', '1', user("x", 1)),
            ),
            "everybody who pushed",
        ),
        (
            changed(&feature, "/1/actor", Value::Null),
            "deleted pushed to pull request 12",
        ),
        (
            changed(&feature, "", json!([])),
            "who pushed its last commit",
        ),
    ] {
        let record = github(answers).await.unwrap();
        assert!(!record.complete, "{why}");
        assert!(
            record.unknown_authors[0].contains(why),
            "{:?}",
            record.unknown_authors
        );
    }
}

#[tokio::test]
async fn a_merge_queue_is_asked_who_queued() {
    let mut answers = squashed();
    let bot = json!({"login": "github-merge-queue[bot]", "id": 11, "type": "Bot"});
    answers.get_mut(&format!("{APP}/pulls/12")).unwrap()["merged_by"] = bot;
    let timeline = format!("{APP}/issues/12/timeline");
    answers.insert(
        timeline.clone(),
        json!([{"event": "added_to_merge_queue", "actor": user("ivan", 12)}, {"sha": "x"}]),
    );
    let record = github(answers.clone()).await.unwrap();
    assert!(record.complete);
    let merged = authors(&record)
        .into_iter()
        .filter(|row| row.starts_with("merged"));
    assert_eq!(
        merged.collect::<Vec<_>>(),
        ["merged github-merge-queue[bot]", "merged ivan"]
    );
    answers.insert(timeline, json!([]));
    assert!(!github(answers).await.unwrap().complete);
}

#[tokio::test]
async fn names_in_git_are_added_and_bots_are_authors_too() {
    let mut answers = squashed();
    let bot = json!({"login": "dependabot[bot]", "id": 13, "type": "Bot"});
    let mut written = commit('d', &['a'], Value::Null);
    written["committer"] = bot;
    answers.insert(format!("{APP}/pulls/12/commits"), json!([written]));
    let record = github(answers).await.unwrap();
    let is = |role| {
        move |author: &&promotion_gate_core::attest::predicate::ChangeAuthor| author.role == role
    };
    let git = record
        .authors
        .iter()
        .filter(is(ChangeRole::Committed))
        .any(|it| it.identity.is_claimed());
    assert!(git && authors(&record).contains(&"signed dependabot[bot]".to_owned()));
}

#[tokio::test]
async fn a_range_that_is_not_ahead_or_too_long_is_refused_with_the_remedy() {
    let path = format!("{APP}/compare/{}...{}", sha('a'), sha('b'));
    for (field, value, said) in [
        ("/status", json!("diverged"), "merge base"),
        ("/status", json!("behind"), "merge base"),
        ("/status", json!("identical"), "merge base"),
        ("/base_commit/sha", json!(sha('9')), "merge base"),
        ("/total_commits", json!(2001), "shorter ranges"),
        ("/total_commits", json!(2), "1 of 2 commits"),
        ("/commits/0/sha", json!(sha('9')), "or other ones"),
        ("/commits", json!([]), "0 of 1 commits"),
    ] {
        let mut answers = squashed();
        *answers.get_mut(&path).unwrap().pointer_mut(field).unwrap() = value;
        // An empty page ends the list.
        answers.insert(format!("{path}?per_page=100&page=2"), json!({"status": "ahead", "total_commits": 2, "base_commit": {"sha": sha('a')}, "commits": []}));
        let error = github(answers).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn every_page_of_a_list_is_read() {
    let answers = squashed();
    let last = Mutex::new(0);
    let server = Server::start(move |seen| {
        if seen.path.contains("/activity") && seen.path.contains("feature") {
            let all = answers[&format!("{APP}/activity?ref=refs/heads/feature")]
                .as_array()
                .unwrap()
                .clone();
            let at: usize = seen
                .path
                .split("after=")
                .nth(1)
                .map_or(0, |at| at.parse().unwrap());
            *last.lock().unwrap() = at;
            let page = Reply::new(200, "application/json", json!([all[at]]).to_string());
            let next = format!(
                "<http://{}{APP}/activity?ref=refs/heads/feature&after={}>; rel=\"next\"",
                seen.headers["host"],
                at + 1
            );
            return if at + 1 < all.len() {
                page.with("link", next)
            } else {
                page
            };
        }
        reply(&answers, seen)
    })
    .await;
    let record = ask(&server, ConnectedPlatform::Github).await.unwrap();
    assert!(record.complete, "{:?}", record.unknown_authors);
    assert!(authors(&record).contains(&"pushed heidi".to_owned()));
}

/// A server that answers the first request for the reviews in another way.
async fn once(odd: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    let answers = squashed();
    let asked = Mutex::new(false);
    Server::start(move |seen| {
        let first =
            seen.path.contains("/reviews") && !std::mem::replace(&mut *asked.lock().unwrap(), true);
        if first {
            odd(seen)
        } else {
            reply(&answers, seen)
        }
    })
    .await
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_the_caller_says() {
    let limits: [fn() -> Reply; 3] = [
        || Reply::status(429).with("retry-after", "1"),
        || Reply::status(403).with("retry-after", "1"),
        || {
            let reset = jiff::Timestamp::now().as_second();
            Reply::status(403)
                .with("x-ratelimit-remaining", "0")
                .with("x-ratelimit-reset", reset.to_string())
        },
    ];
    for limit in limits {
        let server = once(move |_| limit()).await;
        assert!(
            ask(&server, ConnectedPlatform::Github)
                .await
                .unwrap()
                .complete
        );
    }
    for (name, value) in [
        ("retry-after", "600"),
        ("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("x-other", "1"),
    ] {
        let server = once(move |_| Reply::status(429).with(name, value)).await;
        let error = ask(&server, ConnectedPlatform::Github)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("rate of requests") && error.contains("--wait"),
            "{error}"
        );
    }
    let server = once(|_| {
        Reply::new(
            403,
            "application/json",
            r#"{"message": "Resource not accessible by integration"}"#,
        )
    })
    .await;
    let error = ask(&server, ConnectedPlatform::Github)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not accessible") && error.contains("permission"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_the_reading() {
    let odd: Vec<fn(&Seen) -> Reply> = vec![
        |_| Reply::status(500),
        |_| Reply::status(404),
        |_| Reply::new(200, "text/html", "<html>Sign in</html>"),
        |_| Reply::new(200, "application/json", "{}"),
        |_| Reply::new(200, "application/json", r#"[{"user": null}]"#),
        |_| Reply::new(200, "application/json", " ".repeat(17 << 20)),
        |_| Reply::new(200, "application/json", "[]").coming(Manner::Endless),
        |_| {
            Reply::new(200, "application/json", "[]")
                .with("link", "<http://127.0.0.1:1/next>; rel=\"next\"")
        },
        |_| Reply::status(302).with("location", "http://127.0.0.1:1/elsewhere"),
        |seen| Reply::status(302).with("location", seen.path.clone().replace("/api/v3", "/other")),
    ];
    for odd in odd {
        let server = once(odd).await;
        assert!(ask(&server, ConnectedPlatform::Github).await.is_err());
    }
    let mut answers = squashed();
    answers.get_mut(&format!("{APP}/pulls/12")).unwrap()["number"] = json!(13);
    let error = github(answers).await.unwrap_err().to_string();
    assert!(error.contains("another pull request than 12"), "{error}");
}

#[tokio::test]
async fn a_renamed_repository_is_followed_on_its_own_host_alone() {
    let renamed = |to: fn(&Seen) -> String| {
        let answers = squashed();
        Server::start(
            move |seen| match seen.path.strip_prefix("/api/v3/repos/example/old") {
                Some("") => Reply::status(301).with("location", to(seen)),
                _ if seen.path == "/api/v3/repositories/99" => reply(
                    &answers,
                    &Seen {
                        path: APP.to_owned(),
                        ..seen.clone()
                    },
                ),
                _ => reply(&answers, seen),
            },
        )
    };
    let server =
        renamed(|seen| format!("http://{}/api/v3/repositories/99", seen.headers["host"])).await;
    let asked = ChangeQuestion {
        path: "example/old".to_owned(),
        ..question(&server, ConnectedPlatform::Github)
    };
    let record = change(&asked, &options(), |_| {}).await.unwrap();
    assert!(record.repository.uri.ends_with("/example/app"));
    let other = serve(squashed()).await;
    let host = other.host();
    let server =
        Server::start(move |_| Reply::status(301).with("location", format!("http://{host}{APP}")))
            .await;
    let error = ask(&server, ConnectedPlatform::Github)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("another host"), "{error}");
    assert!(other.seen().is_empty());
}

fn lab_user(name: &str, id: u64) -> Value {
    json!({"username": name, "id": id, "state": "active"})
}

fn lab_commit(name: char, parent: char) -> Value {
    json!({
        "id": sha(name), "parent_ids": [sha(parent)], "author_name": "Somebody", "author_email": "somebody@example.com",
        "committer_name": "Somebody", "committer_email": "somebody@example.com",
    })
}

fn lab_push(action: &str, branch: &str, before: Option<char>, after: char, author: Value) -> Value {
    json!({
        "author": author, "action_name": "pushed to",
        "push_data": {"action": action, "ref_type": "branch", "ref": branch, "commit_from": before.map(sha), "commit_to": sha(after)},
    })
}

fn merged() -> Answers {
    let merge = json!({
        "iid": 5, "state": "merged", "web_url": "https://gitlab.com/example/app/-/merge_requests/5", "target_project_id": 99,
        "source_project_id": 99, "target_branch": "main", "source_branch": "feature", "sha": sha('d'), "author": lab_user("alice", 1),
        "merge_user": lab_user("bob", 2),
    });
    let answers = [
        ("/repository/merge_base", json!({"id": sha('a')})),
        (
            "/repository/compare",
            json!({"commits": [lab_commit('b', 'a')], "compare_timeout": false}),
        ),
        (
            &format!("/repository/commits/{}/merge_requests", sha('b')),
            json!([merge]),
        ),
        ("/merge_requests/5", merge.clone()),
        ("/merge_requests/5/commits", json!([lab_commit('d', 'a')])),
        (
            "/merge_requests/5/approvals",
            json!({"approved_by": [{"user": lab_user("dave", 4)}]}),
        ),
        (
            "/events",
            json!([
                lab_push("pushed", "main", Some('a'), 'b', lab_user("bob", 2)),
                lab_push("pushed", "feature", Some('c'), 'd', lab_user("frank", 6)),
                lab_push("created", "feature", None, 'c', lab_user("grace", 7)),
            ]),
        ),
    ];
    let project = json!({"id": 99, "path_with_namespace": "example/app", "default_branch": "main"});
    let answers = answers.map(|(path, value)| (format!("{PROJECT}{path}"), value));
    answers
        .into_iter()
        .chain([("/api/v4/projects/example/app".to_owned(), project)])
        .collect()
}

async fn gitlab(answers: Answers) -> Result<ChangeRecord, ConnectError> {
    ask(&serve(answers).await, ConnectedPlatform::Gitlab).await
}

#[tokio::test]
async fn a_merge_request_of_gitlab_names_everybody_who_touched_it() {
    let record = gitlab(merged()).await.unwrap();
    assert_eq!(record.unknown_authors, Vec::<String>::new());
    let people = authors(&record)
        .into_iter()
        .filter(|row| !row.contains("(git)"));
    assert_eq!(
        people.collect::<Vec<_>>(),
        ["merged bob", "opened alice", "pushed frank", "pushed grace"]
    );
    assert_eq!(record.reviewers.len(), 1);
}

#[tokio::test]
async fn an_author_whom_gitlab_does_not_name_makes_the_record_incomplete() {
    for (path, field, value) in [
        ("/merge_requests/5", "/author", Value::Null),
        ("/merge_requests/5", "/author", lab_user("ghost", 50)),
        ("/merge_requests/5", "/author", lab_user("ghost1", 51)),
        ("/merge_requests/5", "/merge_user", Value::Null),
        ("/merge_requests/5", "/source_project_id", json!(7)),
        ("/merge_requests/5", "/source_project_id", Value::Null),
        ("/merge_requests/5", "/sha", json!(sha('e'))),
        ("/events", "/1/author", Value::Null),
        ("/events", "/2/push_data/action", json!("pushed")),
        ("/events", "/2/push_data/ref", Value::Null),
    ] {
        let mut answers = merged();
        let answer = answers.get_mut(&format!("{PROJECT}{path}")).unwrap();
        *answer.pointer_mut(field).unwrap() = value.clone();
        if field == "/2/push_data/action" {
            answer[2]["push_data"]["commit_from"] = json!(sha('1'));
        }
        let record = gitlab(answers).await.unwrap();
        assert!(!record.complete, "{path} {field} {value}");
    }
    let mut answers = merged();
    answers.insert(
        format!("{PROJECT}/repository/commits/{}/merge_requests", sha('b')),
        json!([]),
    );
    assert_eq!(
        authors(&gitlab(answers).await.unwrap()).last().unwrap(),
        "pushed bob"
    );
}

#[tokio::test]
async fn a_comparison_of_gitlab_that_is_cut_off_or_diverged_is_refused() {
    for (path, field, value, said) in [
        (
            "/repository/merge_base",
            "/id",
            json!(sha('9')),
            "merge base",
        ),
        (
            "/repository/compare",
            "/compare_timeout",
            json!(true),
            "all commits",
        ),
        ("/repository/compare", "/commits", json!([]), "all commits"),
        (
            "/repository/compare",
            "/commits/0",
            lab_commit('b', '9'),
            "all commits",
        ),
        (
            "/repository/compare",
            "/commits",
            json!(vec![lab_commit('b', 'a'); 2001]),
            "shorter ranges",
        ),
    ] {
        let mut answers = merged();
        *answers
            .get_mut(&format!("{PROJECT}{path}"))
            .unwrap()
            .pointer_mut(field)
            .unwrap() = value;
        let error = gitlab(answers).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_writes_the_predicate_and_prints_how_to_sign_it() {
    let server = serve(squashed()).await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("token"), "secret\n").unwrap();
    let image = format!("ghcr.io/example/app@sha256:{}", "0".repeat(64));
    let repository = format!("{}/example/app", server.host());
    let (from, to) = (sha('a'), sha('b'));
    let args = [
        "attest",
        "change",
        &image,
        "--repository",
        &repository,
        "--platform",
        "github",
        "--from",
        &from,
        "--to",
        &to,
        "--token-file",
        "token",
        "--reason",
        "Invoices",
        "--author",
        "github:zoe",
        "--output",
        "change.json",
    ];
    let ran = run(folder.path(), &args, "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let command = format!(
        "cosign attest --yes --type https://promotion-gate.dev/change/v1 --predicate change.json {image}"
    );
    assert!(ran.stderr.contains(&command), "{}", ran.stderr);
    let written = fs::read_to_string(folder.path().join("change.json")).unwrap();
    let record = ChangeRecord::read(&written).unwrap();
    assert_eq!(record.reason.as_deref(), Some("Invoices"));
    assert!(authors(&record).contains(&"added github:zoe".to_owned()));
    run(folder.path(), &args, "");
    assert_eq!(
        fs::read_to_string(folder.path().join("change.json")).unwrap(),
        written
    );
    assert!(!written.contains("secret") && !ran.stderr.contains("secret"));
}

#[test]
fn a_record_that_no_platform_made_is_incomplete() {
    let folder = TempDir::new().unwrap();
    let image = format!("ghcr.io/example/app@sha256:{}", "0".repeat(64));
    let to = sha('b');
    let ran = |image: &str| {
        let to = to.as_str();
        let args = [
            "attest",
            "change",
            image,
            "--repository",
            "git.example.com/app",
            "--platform",
            "none",
            "--to",
            to,
        ];
        let more = [
            "--author",
            "email:alice@example.com",
            "--output",
            "change.json",
        ];
        run(folder.path(), &[&args[..], &more].concat(), "")
    };
    let made = ran(&image);
    assert_eq!(made.code, 3, "{}", made.stderr);
    assert!(
        made.stderr.contains("no platform was asked"),
        "{}",
        made.stderr
    );
    let tagged = ran("ghcr.io/example/app:v1");
    assert_eq!(tagged.code, 1);
    assert!(tagged.stderr.contains("has no digest"), "{}", tagged.stderr);
}
