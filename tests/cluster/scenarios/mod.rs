//! The scenarios, in the order of their numbers.

mod argo_cd;
mod chain;
mod changes;
mod emergencies;
mod flux;
mod forgery;
mod governance;
mod helm;
mod load;
mod operation;
mod outage;
mod records;
mod rights;
mod rollouts;
mod upkeep;

use crate::harness::{Cluster, Scenario};

pub fn all() -> Vec<Scenario> {
    let all = [
        upkeep::scenarios(),
        forgery::scenarios(),
        rollouts::scenarios(),
        outage::scenarios(),
        governance::scenarios(),
        records::scenarios(),
        load::scenarios(),
        changes::scenarios(),
        helm::scenarios(),
        emergencies::scenarios(),
        flux::scenarios(),
        chain::scenarios(),
        argo_cd::scenarios(),
        operation::scenarios(),
    ];
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort_by_key(|scenario| scenario.number);
    all
}

fn scenario(number: u8, holds: &'static str, run: fn(&Cluster)) -> Scenario {
    Scenario {
        number,
        holds,
        run,
        alone: false,
        long: false,
    }
}
