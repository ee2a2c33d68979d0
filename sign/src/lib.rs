//! Signing: a statement about an image, and a key or an identity → a Sigstore bundle (v0.3) that was verified before it is returned.
//!
//! * [`SigningServices`]: which services sign, from a `SigningConfig`
//! * [`SigningKey`], [`IdentityToken`]: who signs; [`AmbientIdentity`] and [`BrowserSignIn`] get a token
//! * [`SigningPlan`]: what will happen, before anything is signed: who signs, what becomes public, whether a time is proven
//! * [`SigningPlan::sign`]: asks the services, makes the bundle, and verifies it with the gate's own verifier
//!
//! Every request goes through [`ServiceClient`], which the shell implements: there is no HTTP client here. Neither a clock nor
//! the environment is read. Nothing that decides depends on this crate.
#![warn(missing_docs)]

mod ambient;
mod browser;
mod client;
mod encrypted_key;
mod error;
mod fulcio;
mod key;
mod plan;
mod rekor;
mod services;
mod sign;
mod statement;
mod timestamp;
mod token;

pub use ambient::AmbientIdentity;
pub use browser::BrowserSignIn;
pub use client::{ServiceAnswer, ServiceClient, ServiceContent, ServiceRequest};
pub use error::SignError;
pub use key::SigningKey;
pub use plan::{PlannedSigner, Publication, SigningIdentity, SigningPlan};
pub use services::{LogVersion, SigningServices};
pub use sign::SignedBundle;
pub use statement::{IN_TOTO, SignedWord, pre_authentication_encoding, statement};
pub use token::{IdentityToken, TokenIdentity};
