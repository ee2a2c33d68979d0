//! The schema of each resource's `status`, which the gate writes.

use serde_json::{Value, json};

use super::Kind;

/// The most windows of a feed in a status.
pub const MAXIMUM_FEED_WINDOWS: usize = 500;

/// The schema of the status of a kind; `None` for a kind that is not a document.
pub(super) fn status(kind: &str) -> Option<Value> {
    Kind::ALL.iter().find(|known| known.name() == kind)?;
    let mut schema = json!({
        "type": "object",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "The generation of the resource that the rest of the status is about.",
            },
            "conditions": conditions(),
            "lastValidSpec": {
                "type": "object",
                "description": "The last `spec` that was valid. It goes on in force while the present one is not.",
                "x-kubernetes-preserve-unknown-fields": true,
            },
        },
    });
    let own = [
        (Kind::ChangeFreeze, vec![("feed", feed())]),
        (Kind::TrustRoot, trust_root()),
        (Kind::EmergencyChangeRecord, emergency()),
        (
            Kind::GateConfiguration,
            vec![
                ("recordKeys", record_keys()),
                ("recordBaseline", record_baseline()),
                ("adopted", adopted()),
                ("governors", governors()),
            ],
        ),
    ];
    let own = own.into_iter().find(|(own, _)| own.name() == kind);
    let own = own.into_iter().flat_map(|(_, fields)| fields);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.extend(own.map(|(name, field)| (name.to_owned(), field)));
    }
    Some(schema)
}

/// `metav1.Condition`s.
fn conditions() -> Value {
    json!({
        "type": "array",
        "maxItems": 16,
        "description": "The state of the resource; `Ready` says whether the present `spec` is in force, and why not.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    })
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn text(most: u32, description: &str) -> Value {
    json!({"type": "string", "maxLength": most, "description": description})
}

fn one_of(values: &[&str], description: &str) -> Value {
    json!({"type": "string", "enum": values, "description": description})
}

fn feed() -> Value {
    json!({
        "type": "object",
        "description": "What the feed said, as one replica reads it; every replica decides by it.",
        "properties": {
            "windows": {
                "type": "array",
                "maxItems": MAXIMUM_FEED_WINDOWS,
                "description": "The times of the next 90 days in which the environments are frozen.",
                "items": {
                    "type": "object",
                    "required": ["from", "until"],
                    "properties": {
                        "from": time("The first instant."),
                        "until": time("The first instant after it."),
                        "reason": text(500, "Why."),
                        "environment": text(253, "The environment, if the feed is asked for each."),
                    },
                },
            },
            "environments": {
                "type": "array",
                "maxItems": 100,
                "description": "The environments that an endpoint was asked for.",
                "items": {"type": "string", "maxLength": 253},
            },
            "fetchedAt": time("When the feed was read last."),
            "error": text(1024, "Why it could not be read since."),
        },
    })
}

fn trust_root() -> Vec<(&'static str, Value)> {
    vec![
        (
            "lastValidRoot",
            text(
                524_288,
                "The last `trusted_root.json` that the repository gave and that was valid. Every replica verifies it by `metadata`, and decides by it.",
            ),
        ),
        ("fetchedAt", time("When the repository was read last.")),
        ("error", text(1024, "Why it could not be read since.")),
        (
            "metadata",
            json!({
                "type": "object",
                "maxProperties": 200,
                "description": "The signed metadata of the repository as read last, by file. Nothing older is accepted.",
                "additionalProperties": {"type": "string", "maxLength": 524_288},
            }),
        ),
    ]
}

fn emergency() -> Vec<(&'static str, Value)> {
    vec![
        (
            "state",
            one_of(
                &["open", "due", "overdue", "reviewed", "lifted"],
                "`open` while it lets changes pass, then `due`, and `overdue` once the review was not made in time; `reviewed` or `lifted` (a governor deleted it) once no review is owed.",
            ),
        ),
        ("review", review()),
        (
            "lifted",
            json!({
                "type": "object",
                "description": "The governor's deletion that ended it without a review.",
                "required": ["by", "at"],
                "properties": {
                    "by": text(1024, "The Kubernetes user."),
                    "at": time("When."),
                },
            }),
        ),
        (
            "refusedReviews",
            json!({
                "type": "array", "maxItems": 20, "items": text(2048, "One review."),
                "description": "Why reviews that are attached do not count.",
            }),
        ),
        (
            "problem",
            text(2048, "What keeps the gate from finding the review."),
        ),
        (
            "outcome",
            one_of(
                OUTCOMES,
                "What became of the change: the least favourable of `outcomes`.",
            ),
        ),
        (
            "outcomes",
            json!({
                "type": "array", "maxItems": 100,
                "description": "What became of each workload.",
                "items": outcome(),
            }),
        ),
    ]
}

const OUTCOMES: &[&str] = &[
    "ready",
    "pending",
    "notObserved",
    "replaced",
    "gone",
    "rolledBack",
    "failed",
];

fn review() -> Value {
    json!({
        "type": "object",
        "description": "The last review that counted. After a later use it is still the earlier one, until that use is reviewed.",
        "required": ["verdict", "reviewer", "at", "reason", "statement"],
        "properties": {
            "verdict": one_of(&["justified", "unjustified", "inconclusive"], "The result."),
            "reviewer": text(253, "The person who reviewed it, by name in the people directory."),
            "at": time("The earliest verified time of the signature."),
            "reason": text(4096, "Why."),
            "followUps": {
                "type": "array", "maxItems": 32, "items": text(2048, "One thing."),
                "description": "What has to be done now.",
            },
            "statement": text(256, "The digest of the statement."),
        },
    })
}

fn outcome() -> Value {
    json!({
        "type": "object",
        "required": ["workload", "template", "outcome", "at"],
        "properties": {
            "workload": text(1024, "The workload, as `KIND NAMESPACE/NAME`."),
            "template": text(256, "The template that was admitted."),
            "outcome": one_of(OUTCOMES, "What became of it."),
            "at": time("Since when."),
            "why": text(1024, "Why, where that is known."),
        },
    })
}

fn record_keys() -> Value {
    json!({
        "type": "array",
        "maxItems": 100,
        "description": "The public keys under which release records count.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["id"],
        "items": {
            "type": "object",
            "required": ["id", "publicKey"],
            "properties": {
                "id": text(128, "The name of the key, which entries name."),
                "publicKey": text(4096, "The key: PEM, `PUBLIC KEY`."),
                "since": time("When it was made."),
            },
            "x-kubernetes-preserve-unknown-fields": true,
        },
    })
}

fn record_baseline() -> Value {
    json!({
        "type": "object",
        "description": "When what ran before the gate came was recorded.",
        "properties": {
            "asked": time("When a replica was first asked to admit something; the baseline is taken after that."),
            "at": time("When it was recorded."),
            "entries": {"type": "integer", "format": "int64", "minimum": 0},
        },
    })
}

fn adopted() -> Value {
    json!({
        "type": "array",
        "maxItems": 100,
        "description": "The items of `spec.adopt` that were adopted, each by its digest.",
        "items": {"type": "string", "maxLength": 128},
    })
}

fn governors() -> Value {
    json!({
        "type": "object",
        "description": "What could be checked about the governors.",
        "properties": {
            "notes": {
                "type": "array",
                "maxItems": 100,
                "items": {"type": "string", "maxLength": 1024},
            },
        },
    })
}
