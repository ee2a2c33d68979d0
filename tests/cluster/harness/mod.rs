//! The cluster, and how scenarios are run in it.

mod argo_cd;
mod balancer;
mod cluster;
mod installed;
mod load;
mod plane;
mod pods;
mod replicas;
mod runner;
mod shop;

pub use argo_cd::ArgoCd;
pub use cluster::{BEFORE, Cluster, shipped};
pub use installed::{Installed, OVERLAP, SHOP};
pub use load::Load;
pub use plane::Person;
pub use pods::NAMESPACE;
pub use runner::{Scenario, run};
pub use shop::{Image, Shop, pod};
