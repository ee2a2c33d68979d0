//! The claims of a certificate: what the certificate authority confirms about the signer.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! claims {
    ($($(#[$attribute:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        /// A claim of a Fulcio certificate, by its OID below `1.3.6.1.4.1.57264.1` (Fulcio, `docs/oid-info.md`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Claim {
            $(
                #[doc = concat!("OID `.", stringify!($number), "`")]
                $(#[$attribute])*
                #[serde(rename = $text)]
                $name,
            )+
        }

        impl Claim {
            /// All names.
            pub const NAMES: &'static [&'static str] = &[$($text,)+];

            /// The name, such as `sourceRepository`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Claim::$name => $text,)+
                }
            }

            pub(super) fn numbered(number: u32) -> Option<Claim> {
                match number {
                    $($number => Some(Claim::$name),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for Claim {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

claims! {
    BuildSignerUri = 9, "buildSignerUri";
    BuildSignerDigest = 10, "buildSignerDigest";
    RunnerEnvironment = 11, "runnerEnvironment";
    #[serde(alias = "sourceRepository")] SourceRepositoryUri = 12, "sourceRepositoryUri";
    SourceRepositoryDigest = 13, "sourceRepositoryDigest";
    SourceRepositoryRef = 14, "sourceRepositoryRef";
    SourceRepositoryIdentifier = 15, "sourceRepositoryIdentifier";
    SourceRepositoryOwnerUri = 16, "sourceRepositoryOwnerUri";
    SourceRepositoryOwnerIdentifier = 17, "sourceRepositoryOwnerIdentifier";
    BuildConfigUri = 18, "buildConfigUri";
    BuildConfigDigest = 19, "buildConfigDigest";
    BuildTrigger = 20, "buildTrigger";
    RunInvocationUri = 21, "runInvocationUri";
    SourceRepositoryVisibility = 22, "sourceRepositoryVisibility";
    DeploymentEnvironment = 23, "deploymentEnvironment";
    TokenSubject = 24, "tokenSubject";
    GithubWorkflowTrigger = 2, "githubWorkflowTrigger";
    GithubWorkflowSha = 3, "githubWorkflowSha";
    GithubWorkflowName = 4, "githubWorkflowName";
    GithubWorkflowRepository = 5, "githubWorkflowRepository";
    GithubWorkflowRef = 6, "githubWorkflowRef";
}
