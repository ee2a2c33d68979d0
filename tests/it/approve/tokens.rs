//! Identity tokens that expire between the question and the signature.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Bench, ISSUER, nothing, services, token, token_of};
use crate::server::{Reply, Server};
use crate::support::until;
use crate::terminal::Terminal;

/// How long a token is valid that expires in between: the last five seconds are not used.
const SHORT: SignedDuration = SignedDuration::from_secs(15);
const MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// A pipeline as GitHub Actions, whose first token is short, and whose later ones are for `later`. Counts the tokens.
async fn pipeline(later: &'static str) -> (Server, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let given = Arc::clone(&count);
    let server = Server::start(move |seen| {
        assert_eq!(seen.headers["authorization"], "Bearer of-the-job");
        assert!(seen.path.ends_with("audience=sigstore"), "{}", seen.path);
        let (email, life) = match given.fetch_add(1, Ordering::SeqCst) {
            0 => ("alice@example.com", SHORT),
            _ => (later, SignedDuration::from_mins(10)),
        };
        let claims = json!({"iss": ISSUER, "aud": "sigstore", "sub": "1", "email": email,
            "exp": (Timestamp::now() + life).as_second()});
        let answer = json!({"value": token_of(&claims)});
        Reply::new(200, "application/json", answer.to_string())
    });
    (server.await, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_before_it_signs_is_fetched_again_where_that_is_possible() {
    let bench = Bench::new(nothing).await;
    bench.certify_alice();
    let own = services(&bench.sigstore, "alice@example.com").await;
    bench.sign_with(&own);
    let digest = bench.registry.push("app", "v1", "image");
    let image = bench.registry.image("app", &digest);
    let approve = |more: &[&str], variables: &[(&str, &str)]| {
        let args = ["approve", &image, "--environment", "production"];
        let judged = ["--config", "gate.yaml", "--policy", "policies"];
        let signing = ["--signing-config", "signing.json"];
        let args = [&args[..], &judged, &signing, more].concat();
        Terminal::run_with(bench.folder.path(), &args, variables)
    };
    let (alice, asked) = pipeline("alice@example.com").await;
    let (mallory, _) = pipeline("mallory@example.com").await;
    let url = [alice.url(), mallory.url()].map(|url| format!("{url}/?a=b"));
    let in_pipeline = |url: &str| {
        let bearer = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job");
        approve(&[], &[("ACTIONS_ID_TOKEN_REQUEST_URL", url), bearer])
    };
    let short = token(Timestamp::now() + SHORT);
    let mut renewed = in_pipeline(&url[0]);
    let mut of_another = in_pipeline(&url[1]);
    let mut given = approve(&["--identity-token", &short], &[]);
    let mut in_a_variable = approve(&[], &[("SIGSTORE_ID_TOKEN", &short)]);
    let in_file = |name: &str| {
        bench.write(name, &short);
        approve(&["--identity-token", name, "--reason", name], &[])
    };
    let mut in_a_file = in_file("kept.token");
    let mut renewed_in_the_file = in_file("renewed.token");
    let mut of_another_in_the_file = in_file("replaced.token");
    let all = [
        &mut renewed,
        &mut of_another,
        &mut given,
        &mut in_a_variable,
        &mut in_a_file,
        &mut renewed_in_the_file,
        &mut of_another_in_the_file,
    ];
    for terminal in all {
        terminal.sees("Signed by `alice@example.com`");
        terminal.sees("Approve 1 image for `production`? [y/N] ");
    }
    let expired = Timestamp::now() + (SHORT - MARGIN);
    until("every token has expired", async || {
        Timestamp::now() > expired
    })
    .await;
    let long = Timestamp::now() + SignedDuration::from_mins(10);
    bench.write("renewed.token", &token(long));
    let mallory =
        json!({"iss": ISSUER, "sub": "1", "email": "mallory@example.com", "exp": long.as_second()});
    bench.write("replaced.token", &token_of(&mallory));
    for (mut terminal, words) in [
        (in_a_file, "`kept.token`: the identity token expired"),
        (
            of_another_in_the_file,
            "the token in `replaced.token` is now of `mallory@example.com`",
        ),
        (of_another, "you signed in again as `mallory@example.com`"),
        (given, "get a new token, and repeat the command"),
        (in_a_variable, "get a new token, and repeat the command"),
    ] {
        terminal.types("y\n");
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains(words), "{words}: {screen}");
        assert!(screen.contains("nothing was signed"), "{screen}");
    }
    assert!(bench.attached("app", &digest).is_empty());
    assert!(own.asked().is_empty(), "{:?}", own.asked());
    for mut terminal in [renewed, renewed_in_the_file] {
        terminal.types("y\n");
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(0), "{screen}");
    }
    assert_eq!(bench.attached("app", &digest).len(), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    super::said(&bench.check(&image), 0, "1 allowed");
}
