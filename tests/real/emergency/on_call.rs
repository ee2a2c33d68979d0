//! The page for people who are on call, walked at a real API server with the commands as it prints them.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::gate_with_emergencies;
use crate::approve::build;
use crate::support::{
    ControlPlane, Gate, LocalSigstore, Ran, Registry, Serving, Tagged, User, deployment, run, until,
};

const PAGE: &str = include_str!("../../../docs/emergency.md");
const BINARY: &str = env!("CARGO_BIN_EXE_promotion-gate");

/// A cluster with a policy, people and a gate, as people on call find it.
struct Night {
    plane: ControlPlane,
    gate: Gate,
    sigstore: std::sync::Arc<LocalSigstore>,
    registry: Registry,
    _serving: Serving,
}

impl Night {
    fn begins() -> Night {
        let sigstore = LocalSigstore::shared();
        let gate = gate_with_emergencies(&sigstore);
        let plane = ControlPlane::start();
        plane.create_namespace("shop");
        plane.create_namespace("promotion-gate");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
        plane.kubectl(["apply", "--server-side", "-f", crds]).ok();
        let policies = gate.path("policies").display().to_string();
        until("the API server knows the kinds of policies", || {
            let applied = plane.kubectl(["apply", "-f", &policies]);
            applied.is_ok().then_some(())
        });
        let serving = gate.serve_cluster(&plane.kubeconfig_of_gate(), &[]);
        serving.is_ready();
        plane.register(&serving);
        Night {
            plane,
            gate,
            sigstore,
            registry: Registry::distribution(),
            _serving: serving,
        }
    }

    fn build(&self, name: &str) -> Tagged {
        build(&self.registry, name, &self.sigstore)
    }

    fn deploy(&self, name: &str, image: &Tagged) -> Ran {
        let object = deployment(name, &image.by_digest());
        let apply = ["apply", "-f", "-"];
        self.plane.kubectl_as(User::Alice, apply, &object)
    }

    /// Runs a command in a shell. What is not on the page is what every site sets up: its registry's and its Sigstore's configuration.
    fn types(&self, typed: &str, who: Option<&str>) -> Ran {
        let program = Path::new(BINARY).parent().unwrap().display().to_string();
        let path = format!("{program}:{}", env::var("PATH").unwrap_or_default());
        // The commands that the program prints name the configuration already.
        let mut flags = match typed.contains("--config") {
            true => String::new(),
            false => "--config gate.yaml".to_owned(),
        };
        if let Some(who) = who {
            let token = self.sigstore.issuer.token(&format!("{who}@example.com"));
            let signs = format!(" --signing-config signing.json --yes --identity-token {token}");
            flags.push_str(&signs);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{typed} {flags}")]);
        shell.current_dir(self.gate.path("")).env("PATH", path);
        shell.env("KUBECONFIG", self.plane.admin_kubeconfig());
        run(&mut shell, b"")
    }

    fn record(&self) -> Value {
        let get = ["get", "emergencychangerecords", "-o", "json"];
        let list = self.plane.kubectl(get).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        list["items"][0].clone()
    }
}

/// The command with this verb, as the page prints it for an image and a declaration.
fn on_page(verb: &str, image: &Tagged, declaration: &str) -> String {
    let begins = format!("`promotion-gate emergency {verb} ");
    let (_, after) = PAGE.split_once(&begins).unwrap();
    let (rest, _) = after.split_once('`').unwrap();
    let typed = format!("promotion-gate emergency {verb} {rest}");
    let typed = typed.replace("IMAGE", &image.by_digest());
    // `--watch` goes on and on.
    typed
        .replace("sha256:…", declaration)
        .replace(" --watch", "")
}

/// The command that begins so, in a text of the program.
fn printed(said: &str, verb: &str) -> String {
    let begins = format!("promotion-gate emergency {verb} ");
    let at = said.find(&begins);
    let at = at.unwrap_or_else(|| panic!("no `{begins}` in {said}"));
    let ends = |it: char| ['`', '\n'].contains(&it);
    said[at..].split(ends).next().unwrap().trim().to_owned()
}

fn words(typed: &str) -> BTreeSet<&str> {
    typed.split_whitespace().collect()
}

fn declaration(said: &str) -> String {
    let mut lines = said.lines();
    let declared = lines.find_map(|line| line.strip_prefix("declared as "));
    declared.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn the_page_for_people_on_call_leads_through_an_emergency_with_the_commands_that_it_prints() {
    let night = Night::begins();
    let mends = night.build("mends");
    // The denial prints how to declare it; incident and reason are to be filled in.
    let denial = until("it is denied", || {
        let ran = night.deploy("web", &mends);
        (!ran.is_ok()).then_some(ran.stderr)
    });
    let first = printed(&denial, "declare");
    let page = on_page("declare", &mends, "");
    let about = page.split(" --incident ").next().unwrap();
    assert!(words(about).is_subset(&words(&first)), "{first}\n{page}");

    // 1 and 2. Two people: with the command of the page, and with the one that `declare` printed.
    let declared = night.types(&page, Some("bob")).ok();
    let id = declaration(&declared);
    let agree = printed(&declared, "approve");
    let page = on_page("approve", &mends, &id);
    assert!(words(&page).is_subset(&words(&agree)), "{agree}\n{page}");
    let status = on_page("status", &mends, &id);
    let missing = night.types(&status, None);
    assert_eq!(missing.code, Some(2), "{missing}");
    let denial = night.deploy("web", &mends).refused();
    assert!(denial.contains("[emergency-not-agreed]"), "{denial}");
    // The author of the change is told before anything is signed.
    let refused = night.types(&agree, Some("alice"));
    assert_eq!(refused.code, Some(2), "{refused}");
    night.types(&agree, Some("carol")).ok();

    // 3 and 4.
    let allowed = night.types(&status, None).ok();
    assert!(allowed.contains("allowed"), "{allowed}");
    let deployed = night.deploy("web", &mends);
    assert!(deployed.stderr.contains("review due"), "{deployed}");
    deployed.ok();

    // The list shows what owes a review, and what is to be typed.
    until("its record is kept", || {
        let record = night.record();
        (record["status"]["state"] == "open").then_some(())
    });
    let list = on_page("list", &mends, &id);
    let listed = night.types(&list, None).ok();
    assert!(listed.contains(&mends.digest), "{listed}");

    // 6. Who agreed cannot review it, and who had no part can.
    let review = on_page("review", &mends, &id);
    let refused = night.types(&review, Some("carol"));
    assert_eq!(refused.code, Some(2), "{refused}");
    let key = " --signing-config signing.json --yes --key eve.key";
    night.types(&format!("{review}{key}"), None).ok();
    let listed = night.types(&list, None).ok();
    assert!(listed.contains("justified"), "{listed}");
}

#[test]
fn an_emergency_change_that_is_over_early_is_ended_with_the_command_of_the_page() {
    let night = Night::begins();
    let image = night.build("early");
    until("it is denied", || {
        (!night.deploy("web", &image).is_ok()).then_some(())
    });
    let declare = on_page("declare", &image, "");
    let id = declaration(&night.types(&declare, Some("bob")).ok());
    let agree = on_page("approve", &image, &id);
    night.types(&agree, Some("carol")).ok();
    let close = on_page("close", &image, &id);
    night.types(&close, Some("bob")).ok();
    let denial = night.deploy("web", &image).refused();
    assert!(denial.contains("[emergency-closed]"), "{denial}");
    // What the page says to do then: declare it again.
    assert!(
        denial.contains("promotion-gate emergency declare"),
        "{denial}"
    );
    let status = night.types(&on_page("status", &image, &id), None);
    assert_eq!(status.code, Some(2), "{status}");
    assert!(status.stdout.contains("ended"), "{status}");
}
