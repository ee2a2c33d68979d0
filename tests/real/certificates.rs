//! The webhook's certificate and the authority by which a real API server verifies it are replaced while requests come.

mod from_files;
mod self_managed;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{Certificate, ControlPlane, Gate, Ran, Serving, User, deployment, until};

/// Two authorities follow each other as cert-manager has them follow: both stand in the `caBundle` before the certificate changes, and
/// the first one goes after that.
#[test]
fn another_authority_takes_over_without_a_lost_request_and_the_wrong_one_is_noticed_and_repaired() {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let gate = Gate::configured(&json!({}));
    let gate = gate.requirements(json!([{"digestPinned": {}}]));
    let (first, second) = (Certificate::new("127.0.0.1"), Certificate::new("127.0.0.1"));
    let serving = gate.serve_as(&first, "127.0.0.1", &[]);
    register(&plane, &serving, &first.pem);
    until("the gate is asked", || {
        ask(&plane).stderr.contains(ANSWER).then_some(())
    });

    let (running, answered) = (AtomicBool::new(true), AtomicUsize::new(0));
    let lost = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut lost = Vec::new();
            while running.load(Ordering::Relaxed) {
                let asked = ask(&plane);
                if !asked.stderr.contains(ANSWER) {
                    lost.push(asked.stderr);
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            lost
        });
        let some_more = || {
            let before = answered.load(Ordering::Relaxed);
            until("more requests are answered", || {
                (answered.load(Ordering::Relaxed) >= before + 15).then_some(())
            });
        };
        some_more();
        register(&plane, &serving, &format!("{}{}", first.pem, second.pem));
        some_more();
        gate.present(&second);
        until("the second certificate is in use", || {
            let metrics = serving.probes.http_get("/metrics")?;
            metrics
                .contains("promotion_gate_certificate_reloads_total 1")
                .then_some(())
        });
        some_more();
        register(&plane, &serving, &second.pem);
        some_more();
        running.store(false, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert_eq!(lost, Vec::<String>::new());

    // An authority that did not issue the certificate: requests fail and are not let in, and the right one repairs it. The first
    // authority does not show that, because the API server may keep a connection that it opened with it.
    let third = Certificate::new("127.0.0.1");
    register(&plane, &serving, &third.pem);
    until("the API server refuses the certificate", || {
        let asked = ask(&plane);
        assert!(!asked.is_ok(), "{asked}");
        asked.stderr.contains("x509").then_some(())
    });
    register(&plane, &serving, &second.pem);
    until("the gate is asked again", || {
        ask(&plane).stderr.contains(ANSWER).then_some(())
    });
}

#[test]
fn a_certificate_that_has_ended_is_replaced_without_a_restart() {
    let plane = ControlPlane::start();
    plane.create_namespace("shop");
    let gate = Gate::configured(&json!({}));
    let gate = gate.requirements(json!([{"digestPinned": {}}]));
    let (ended, next) = (
        Certificate::ended("127.0.0.1"),
        Certificate::new("127.0.0.1"),
    );
    let serving = gate.serve_as(&ended, "127.0.0.1", &[]);
    register(&plane, &serving, &format!("{}{}", ended.pem, next.pem));
    until("the API server refuses the certificate", || {
        let asked = ask(&plane);
        asked.stderr.contains("expired").then_some(())
    });
    gate.present(&next);
    until("the gate is asked", || {
        ask(&plane).stderr.contains(ANSWER).then_some(())
    });
}

/// What the gate answers to [`ask`].
const ANSWER: &str = "[not-pinned]";

fn ask(plane: &ControlPlane) -> Ran {
    let dry = ["create", "--dry-run=server", "-f", "-"];
    let tagged = deployment("web", "registry.example/app:1");
    plane.kubectl_as(User::Alice, dry, &tagged)
}

fn register(plane: &ControlPlane, serving: &Serving, authorities: &str) {
    let registration = serving.registration(authorities);
    let apply = ["apply", "-f", "-"];
    plane.kubectl_as(User::Admin, apply, &registration).ok();
}
