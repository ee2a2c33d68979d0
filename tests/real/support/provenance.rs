//! The build that the tests attest, and its provenance as slsa-github-generator writes it.

use serde_json::{Value, json};

pub const BUILDER: &str = "https://ci.example/builder";
pub const SOURCE: &str = "https://github.com/example/app";

/// Provenance v0.2 of a build of the branch `main`.
pub fn provenance_of_generator(builder: &str, source: &str) -> Value {
    let uri = format!("git+{source}@refs/heads/main");
    json!({
        "builder": {"id": builder},
        "buildType": "https://github.com/slsa-framework/slsa-github-generator/container@v1",
        "invocation": {
            "configSource": {"uri": uri, "digest": {"sha1": "1".repeat(40)}, "entryPoint": "release.yml"},
            "parameters": {},
            "environment": {"github_ref": "refs/heads/main", "github_ref_type": "branch"},
        },
        "materials": [{"uri": uri, "digest": {"sha1": "1".repeat(40)}}],
    })
}
