//! The plan at shifted times.

use super::*;

const NAME: &str = "promotion-gate.promotion-gate.svc";

fn settings() -> CertificateSettings {
    CertificateSettings {
        names: vec![NAME.to_owned()],
        ca_validity: SignedDuration::from_hours(24 * 730),
        validity: SignedDuration::from_hours(24 * 90),
        overlap: SignedDuration::from_mins(10),
    }
}

fn start() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn days(days: i64) -> Timestamp {
    start() + SignedDuration::from_hours(24 * days)
}

fn made() -> Certificates {
    Certificates::new(start(), &settings()).unwrap()
}

/// What a Secret with these certificates gives when it is read again.
fn stored(certificates: &Certificates) -> Certificates {
    Certificates::read(&certificates.data()).unwrap()
}

fn apply(certificates: &Certificates, step: RenewalStep, now: Timestamp) -> Certificates {
    let settings = settings();
    match step {
        RenewalStep::Nothing => certificates.clone(),
        RenewalStep::NewAuthority => certificates.with_authority(now, &settings).unwrap(),
        RenewalStep::NewCertificate { .. } => {
            certificates.with_certificate(now, &settings).unwrap()
        }
        RenewalStep::ForgetExpired => certificates.without_expired(now),
    }
}

/// Whether clients that trust these CAs accept this certificate at a time and under the name of the Service.
fn is_accepted(serving: &Serving, trusted: &Certificates, at: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in &trusted.authorities {
        roots.add(authority.der.clone()).unwrap();
    }
    let certificate = ParsedCertificate::try_from(&serving.leaf).unwrap();
    let seconds = u64::try_from(at.as_second()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], at, algorithms).is_ok()
        && verify_server_name(&certificate, &ServerName::try_from(NAME).unwrap()).is_ok()
}

#[test]
fn what_is_made_is_read_again_as_it_was_and_nothing_is_due() {
    let made = made();
    assert!(stored(&made) == made);
    assert_eq!(made.next_step(start(), &settings()), RenewalStep::Nothing);
    let serving = made.serving().unwrap();
    assert!(is_accepted(serving, &made, start()));
    let fast = start() - SignedDuration::from_mins(59);
    assert!(is_accepted(serving, &made, fast), "a clock that is slow");
    assert_eq!(made.newest().unwrap().until(), days(730));
    assert_eq!(serving.validity.until, days(90));
}

#[test]
fn each_certificate_is_due_after_two_thirds_of_its_validity() {
    let made = made();
    let at = |day| made.next_step(days(day), &settings());
    let renewed = RenewalStep::NewCertificate {
        only_if_trusted: false,
    };
    assert_eq!(at(59), RenewalStep::Nothing);
    assert_eq!(at(60), renewed);
    assert_eq!(at(90), renewed, "it has expired");
    assert_eq!(at(486), renewed);
    assert_eq!(at(487), RenewalStep::NewAuthority);
    assert_eq!(
        at(2000),
        RenewalStep::NewAuthority,
        "everything has expired"
    );
}

#[test]
fn a_certificate_that_is_valid_for_minutes_is_not_due_before_two_thirds_of_them() {
    let mut settings = settings();
    settings.overlap = SignedDuration::from_mins(1);
    settings.validity = SignedDuration::from_mins(6);
    settings.ca_validity = SignedDuration::from_mins(30);
    let made = Certificates::new(start(), &settings).unwrap();
    let after = |minutes| start() + SignedDuration::from_mins(minutes);
    assert_eq!(made.next_step(after(0), &settings), RenewalStep::Nothing);
    assert_eq!(made.next_step(after(3), &settings), RenewalStep::Nothing);
    assert_ne!(made.next_step(after(4), &settings), RenewalStep::Nothing);
    let renewed = made.with_certificate(after(19), &settings).unwrap();
    assert_eq!(
        renewed.next_step(after(19), &settings),
        RenewalStep::Nothing
    );
    assert_eq!(
        renewed.next_step(after(20), &settings),
        RenewalStep::NewAuthority
    );
}

#[test]
fn a_certificate_of_a_new_ca_waits_until_clients_know_the_ca() {
    let old = apply(&made(), made().next_step(days(60), &settings()), days(60));
    let old = old.with_certificate(days(480), &settings()).unwrap();
    let day = days(490);
    assert_eq!(old.next_step(day, &settings()), RenewalStep::NewAuthority);
    let both = stored(&apply(&old, RenewalStep::NewAuthority, day));
    assert_eq!(both.authorities.len(), 2);
    assert!(
        both.serving == old.serving,
        "the certificate is served unchanged"
    );
    let after = |minutes| day + SignedDuration::from_mins(minutes);
    assert_eq!(both.next_step(after(9), &settings()), RenewalStep::Nothing);
    let issue = both.next_step(after(10), &settings());
    assert_eq!(
        issue,
        RenewalStep::NewCertificate {
            only_if_trusted: true
        }
    );
    let new = stored(&apply(&both, issue, after(10)));
    assert!(is_accepted(new.serving().unwrap(), &both, after(10)));
    assert!(!is_accepted(new.serving().unwrap(), &old, after(10)));
    assert_eq!(new.authorities.len(), 2);
    assert_eq!(
        new.next_step(days(500), &settings()),
        RenewalStep::Nothing,
        "the old CA stays"
    );
}

#[test]
fn ten_years_pass_without_a_moment_at_which_what_is_served_is_not_trusted() {
    let mut now = start();
    let mut certificates = made();
    let mut steps = std::collections::BTreeMap::new();
    while now < days(3650) {
        now += SignedDuration::from_hours(24);
        loop {
            let step = certificates.next_step(now, &settings());
            if step == RenewalStep::Nothing {
                break;
            }
            let next = stored(&apply(&certificates, step, now));
            let served = certificates.serving().unwrap();
            assert!(is_accepted(served, &next, now), "{step:?} at {now}");
            let next_served = next.serving().unwrap();
            assert!(
                is_accepted(next_served, &certificates, now),
                "{step:?} at {now}"
            );
            certificates = next;
            *steps.entry(format!("{step:?}")).or_insert(0) += 1;
        }
        assert!(is_accepted(
            certificates.serving().unwrap(),
            &certificates,
            now
        ));
        assert!(certificates.authorities.len() <= 2);
    }
    let count = |step: RenewalStep| steps[&format!("{step:?}")];
    assert_eq!(count(RenewalStep::NewAuthority), 7);
    assert_eq!(
        count(RenewalStep::NewCertificate {
            only_if_trusted: true
        }),
        7
    );
    assert!(
        count(RenewalStep::NewCertificate {
            only_if_trusted: false
        }) > 40
    );
    assert!(count(RenewalStep::ForgetExpired) >= 6);
}

#[test]
fn certificates_of_a_clock_that_was_wrong_are_replaced_at_once() {
    // All of it was made a year ahead of the time: clients refuse it now.
    let ahead = Certificates::new(days(365), &settings()).unwrap();
    assert_eq!(
        ahead.next_step(start(), &settings()),
        RenewalStep::NewAuthority
    );
    let both = ahead.with_authority(start(), &settings()).unwrap();
    let issue = both.next_step(start(), &settings());
    assert_eq!(
        issue,
        RenewalStep::NewCertificate {
            only_if_trusted: false
        }
    );
    let right = apply(&both, issue, start());
    assert!(is_accepted(right.serving().unwrap(), &right, start()));
    assert_eq!(right.next_step(start(), &settings()), RenewalStep::Nothing);
}

#[test]
fn another_name_of_the_service_is_put_into_a_new_certificate() {
    let made = made();
    let mut other = settings();
    other.names.push("gate.example".to_owned());
    other.names.push("127.0.0.1".to_owned());
    let issue = made.next_step(start(), &other);
    assert_eq!(
        issue,
        RenewalStep::NewCertificate {
            only_if_trusted: false
        }
    );
    let renewed = made.with_certificate(start(), &other).unwrap();
    assert_eq!(renewed.next_step(start(), &other), RenewalStep::Nothing);
    assert!(is_accepted(renewed.serving().unwrap(), &made, start()));
}

#[test]
fn a_secret_that_lost_a_part_is_completed_and_what_is_served_stays_trusted() {
    let made = made();
    let without = |fields: &[&str]| {
        let mut data = made.data();
        data.retain(|field, _| !fields.contains(&field.as_str()));
        Certificates::read(&data).unwrap()
    };
    let other = Certificates::new(start(), &settings()).unwrap();
    let with = |field: &str, from: &Certificates| {
        let mut data = made.data();
        data.insert(field.to_owned(), from.data()[field].clone());
        Certificates::read(&data).unwrap()
    };
    for broken in [without(&["ca.key"]), with("ca.key", &other)] {
        assert_eq!(
            broken.next_step(start(), &settings()),
            RenewalStep::NewAuthority
        );
        let both = broken.with_authority(start(), &settings()).unwrap();
        assert!(is_accepted(made.serving().unwrap(), &both, start()));
        assert_eq!(both.next_step(start(), &settings()), RenewalStep::Nothing);
    }
    let lost = [
        without(&["tls.crt"]),
        without(&["tls.key"]),
        with("tls.key", &other),
        with("tls.crt", &other),
    ];
    for broken in lost {
        assert!(broken.serving().is_none());
        let issue = broken.next_step(start(), &settings());
        assert_eq!(
            issue,
            RenewalStep::NewCertificate {
                only_if_trusted: false
            }
        );
        let renewed = apply(&broken, issue, start());
        assert!(is_accepted(renewed.serving().unwrap(), &made, start()));
    }
}

#[test]
fn a_secret_without_readable_cas_is_refused_and_says_why() {
    let read = |field: &str, text: &[u8]| {
        let mut data = made().data();
        data.insert(field.to_owned(), ByteString(text.to_vec()));
        Certificates::read(&data).unwrap_err()
    };
    let leaf = made().serving().unwrap().chain.clone();
    let many = made().newest().unwrap().pem().repeat(9);
    let cut = &made().newest().unwrap().pem().into_bytes()[..300];
    for (text, why) in [
        (&b""[..], "`ca.crt` holds no certificate"),
        (b"nonsense", "`ca.crt` holds no certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "not a CA certificate",
        ),
        (leaf.as_bytes(), "not a CA certificate"),
        (many.as_bytes(), "more than 8 certificates"),
        (cut, "`ca.crt` holds no"),
        (&vec![b'a'; 70_000], "larger than 65536 bytes"),
    ] {
        let told = read("ca.crt", text);
        assert!(told.contains(why), "{told}");
    }
    assert!(read("tls.key", &vec![b'a'; 70_000]).contains("`tls.key` is larger"));
}

#[test]
fn keys_are_never_shown() {
    let made = made();
    let shown = format!("{made:?} {:?}", made.serving().unwrap());
    assert!(!shown.contains("PRIVATE"), "{shown}");
    let key = made.ca_key.unwrap();
    assert!(!shown.contains(key.lines().nth(1).unwrap()), "{shown}");
}

#[test]
fn cas_that_are_added_again_and_again_do_not_add_up() {
    let mut certificates = made();
    for hour in 1..20 {
        let now = start() + SignedDuration::from_hours(hour);
        certificates = stored(&certificates.with_authority(now, &settings()).unwrap());
    }
    assert_eq!(certificates.authorities.len(), MAXIMUM_AUTHORITIES);
    let served = certificates.serving().unwrap();
    assert!(is_accepted(served, &certificates, start()));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_secret_is_served_only_after_clients_know_its_ca() {
    let (before, after) = (made(), made());
    let overlap = settings().overlap();
    let mut known = KnownAuthorities::default();
    known.see(&before, Instant::now(), &settings());
    known.see(&after, Instant::now(), &settings());
    let bundle =
        |known: &KnownAuthorities| known.bundle(&after, Instant::now(), start(), &settings());
    let (old, new) = (before.newest().unwrap(), after.newest().unwrap());
    let served = after.serving().unwrap();
    assert!(!known.may_serve(served, Instant::now(), &settings()));
    tokio::time::advance(overlap).await;
    known.see(&after, Instant::now(), &settings());
    assert!(known.may_serve(served, Instant::now(), &settings()));
    let told = bundle(&known);
    assert!(old.is_in(told.as_bytes()) && new.is_in(told.as_bytes()));
    tokio::time::advance(overlap + Duration::from_secs(1)).await;
    let told = bundle(&known);
    assert!(!old.is_in(told.as_bytes()) && new.is_in(told.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_comes_back_is_served_only_after_clients_know_it_again() {
    let (first, second) = (made(), made());
    let settings = settings();
    let mut known = KnownAuthorities::default();
    known.see(&first, Instant::now(), &settings);
    let mut passed = Duration::ZERO;
    while passed <= settings.overlap() * 2 {
        tokio::time::advance(Duration::from_secs(30)).await;
        passed += Duration::from_secs(30);
        known.see(&second, Instant::now(), &settings);
    }
    // Its CA is not in `caBundle` any more.
    let trusted = known.bundle(&second, Instant::now(), start(), &settings);
    assert!(!first.newest().unwrap().is_in(trusted.as_bytes()));
    known.see(&first, Instant::now(), &settings);
    let served = first.serving().unwrap();
    assert!(!known.may_serve(served, Instant::now(), &settings));
    tokio::time::advance(settings.overlap()).await;
    known.see(&first, Instant::now(), &settings);
    assert!(known.may_serve(served, Instant::now(), &settings));
}

#[tokio::test(start_paused = true)]
async fn what_clients_trusted_when_a_replica_started_stays_trusted_for_twice_the_overlap() {
    let (before, after) = (made(), made());
    let settings = settings();
    let old = before.newest().unwrap();
    let mut known = KnownAuthorities::default();
    assert!(known.is_empty());
    known.see_trusted(b"nonsense", Instant::now(), &settings);
    assert!(known.is_empty());
    known.see_trusted(old.pem().as_bytes(), Instant::now(), &settings);
    known.see(&after, Instant::now(), &settings);
    let bundle = known.bundle(&after, Instant::now(), start(), &settings);
    assert!(old.is_in(bundle.as_bytes()));
    tokio::time::advance(settings.overlap() * 2 + Duration::from_secs(1)).await;
    let bundle = known.bundle(&after, Instant::now(), start(), &settings);
    assert!(!old.is_in(bundle.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn attack_a_ca_that_is_added_while_no_replica_holds_the_lease_is_reported_by_the_next_holder()
{
    let before = made();
    let after = before.with_authority(days(1), &settings()).unwrap();
    let mut reported = ReportedAuthorities::default();
    let mut see = |certificates: &Certificates, is_held: bool, renewed: Option<Instant>| {
        reported.see(certificates, Instant::now(), is_held, renewed)
    };
    assert!(!see(&before, false, None), "what it finds at its start");
    // The holder ended at once, without having read the Secret.
    let ended = Some(Instant::now());
    for _ in 0..4 {
        assert!(!see(&after, false, ended));
        tokio::time::advance(Duration::from_secs(30)).await;
    }
    assert!(see(&after, true, ended));
    assert!(!see(&after, true, ended), "once");
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_another_holder_saw_is_not_reported_again_by_the_one_after_it() {
    let before = made();
    let after = before.with_authority(days(1), &settings()).unwrap();
    let mut reported = ReportedAuthorities::default();
    let mut see = |certificates: &Certificates, is_held: bool| {
        reported.see(certificates, Instant::now(), is_held, Some(Instant::now()))
    };
    assert!(!see(&before, false));
    for _ in 0..3 {
        assert!(!see(&after, false));
        tokio::time::advance(Duration::from_secs(30)).await;
    }
    assert!(!see(&after, true));
    // A CA that this replica made itself is not reported.
    let renewed = after.with_authority(days(2), &settings()).unwrap();
    reported.note(&renewed);
    assert!(!reported.see(&renewed, Instant::now(), true, None));
}

#[tokio::test(start_paused = true)]
async fn a_clock_of_this_machine_that_is_wrong_or_jumps_moves_no_renewal() {
    let mut clock = ServerClock::default();
    assert!(clock.is_old(Instant::now()));
    assert_eq!(clock.time(Instant::now(), days(1)), days(1));
    clock.set(Instant::now(), days(60));
    assert!(!clock.is_old(Instant::now()));
    tokio::time::advance(Duration::from_secs(60)).await;
    for slow_or_fast in [start(), days(400)] {
        let time = clock.time(Instant::now(), slow_or_fast);
        assert_eq!(time, days(60) + SignedDuration::from_secs(60));
        assert_ne!(made().next_step(time, &settings()), RenewalStep::Nothing);
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(clock.is_old(Instant::now()));
}

#[test]
fn foreign_fields_of_a_secret_stay_when_certificates_are_written() {
    let (before, after) = (made(), made());
    let mut data = before.data();
    data.insert("note".to_owned(), ByteString(b"ours".to_vec()));
    let without_key = Certificates {
        ca_key: None,
        ..after.clone()
    };
    without_key.write_into(&mut data);
    assert!(Certificates::read(&data).unwrap() == without_key);
    assert_eq!(data.remove("note"), Some(ByteString(b"ours".to_vec())));
    assert_eq!(data, without_key.data());
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    assert_eq!(settings().problem(), None);
    let mut longer = settings();
    longer.validity = longer.ca_validity + SignedDuration::from_secs(1);
    assert!(longer.problem().unwrap().contains("longer than the CA"));
    let mut overlapping = settings();
    overlapping.overlap = SignedDuration::from_hours(24 * 31);
    assert!(overlapping.problem().unwrap().contains("a third"));
    let mut named = settings();
    named.names.push("*.*".to_owned());
    assert!(named.problem().unwrap().contains("`*.*`"));
}
