//! Assigns distinct signers or persons (candidates) to seats. The assignment is a maximum matching: no candidate fills two
//! seats, and the order of the candidates does not leave a seat empty that another order would fill.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Seats of one kind.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    /// The number of seats.
    pub(super) count: usize,
    /// The candidates that may fill the seats, by numbers that the caller chooses.
    pub(super) open_to: BTreeSet<usize>,
}

/// Fills as many seats as possible. Returns the candidates assigned to each kind; each candidate is assigned at most once.
///
/// Kuhn's algorithm: an open seat takes a free candidate, or a candidate whose present seat another candidate can fill. If that
/// fails once for a kind, it fails for the rest of its seats too. Each seat costs one walk over all candidates of all kinds.
pub(super) fn fill(seats: &[Seats]) -> Vec<BTreeSet<usize>> {
    let mut table = Table {
        seats,
        taken: BTreeMap::new(),
        filled: vec![BTreeSet::new(); seats.len()],
    };
    for (kind, of_kind) in seats.iter().enumerate() {
        for candidate in &of_kind.open_to {
            if table.is_full(kind) {
                break;
            }
            if !table.taken.contains_key(candidate) {
                table.assign(*candidate, kind);
            }
        }
        while !table.is_full(kind) && table.make_room(kind) {}
    }
    table.filled
}

struct Table<'a> {
    seats: &'a [Seats],
    /// The kind that each assigned candidate fills.
    taken: BTreeMap<usize, usize>,
    filled: Vec<BTreeSet<usize>>,
}

impl Table<'_> {
    fn is_full(&self, kind: usize) -> bool {
        let filled = self.filled.get(kind).map_or(0, BTreeSet::len);
        self.seats.get(kind).is_none_or(|of| filled >= of.count)
    }

    /// Assigns a candidate to a kind, and frees the seat that the candidate had.
    fn assign(&mut self, candidate: usize, kind: usize) {
        let before = self.taken.insert(candidate, kind);
        if let Some(left) = before.and_then(|before| self.filled.get_mut(before)) {
            left.remove(&candidate);
        }
        if let Some(filled) = self.filled.get_mut(kind) {
            filled.insert(candidate);
        }
    }

    /// Fills one more seat of a kind by the shortest chain of candidates that move to another kind (breadth-first search).
    fn make_room(&mut self, kind: usize) -> bool {
        // For each kind on the way: the candidate that would leave it, and the kind that the candidate would move to.
        let mut moves: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut wanted = VecDeque::from([kind]);
        while let Some(here) = wanted.pop_front() {
            for candidate in self.seats.get(here).iter().flat_map(|of| &of.open_to) {
                match self.taken.get(candidate).copied() {
                    None => {
                        let (mut candidate, mut to) = (*candidate, here);
                        self.assign(candidate, to);
                        while let Some((moved, next)) = moves.get(&to).filter(|_| to != kind) {
                            (candidate, to) = (*moved, *next);
                            self.assign(candidate, to);
                        }
                        return true;
                    }
                    Some(there) if there != kind && !moves.contains_key(&there) => {
                        moves.insert(there, (*candidate, here));
                        wanted.push_back(there);
                    }
                    Some(_) => {}
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seats(of: &[(usize, &[usize])]) -> Vec<Seats> {
        let each = of.iter().map(|(count, open_to)| Seats {
            count: *count,
            open_to: open_to.iter().copied().collect(),
        });
        each.collect()
    }

    fn filled(seats: &[Seats]) -> usize {
        fill(seats).iter().map(BTreeSet::len).sum()
    }

    /// The most seats that any assignment fills, by trying all of them.
    fn by_trying(kinds: &[Seats], candidate: usize, candidates: usize) -> usize {
        if candidate == candidates {
            return 0;
        }
        let mut most = by_trying(kinds, candidate + 1, candidates);
        for (at, kind) in kinds.iter().enumerate() {
            if kind.count > 0 && kind.open_to.contains(&candidate) {
                let mut rest = kinds.to_vec();
                rest[at].count -= 1;
                most = most.max(1 + by_trying(&rest, candidate + 1, candidates));
            }
        }
        most
    }

    proptest! {
        #[test]
        fn as_many_seats_are_filled_as_any_assignment_could_fill(
            kinds in prop::collection::vec(
                (0usize..4, prop::collection::btree_set(0usize..6, 0..6)), 0..5,
            )
        ) {
            let seats: Vec<_> = kinds
                .into_iter()
                .map(|(count, open_to)| Seats { count, open_to })
                .collect();
            let filled = fill(&seats);
            let mut sitting = BTreeSet::new();
            for (of, filled) in seats.iter().zip(&filled) {
                prop_assert!(filled.len() <= of.count && filled.is_subset(&of.open_to));
                prop_assert!(filled.iter().all(|candidate| sitting.insert(*candidate)));
            }
            prop_assert_eq!(sitting.len(), by_trying(&seats, 0, 6));
        }
    }

    #[test]
    fn an_assigned_candidate_moves_for_one_with_no_other_seat() {
        let chain = seats(&[(1, &[0, 1]), (1, &[1, 2]), (1, &[2, 3]), (1, &[0])]);
        assert_eq!(filled(&chain), 4);
        assert_eq!(filled(&seats(&[(2, &[0, 1, 2]), (1, &[0]), (1, &[1])])), 3);
        assert_eq!(filled(&seats(&[(1, &[0]), (1, &[0, 1])])), 2);
        assert_eq!(filled(&seats(&[(1, &[0]), (1, &[0])])), 1);
    }

    #[test]
    fn thousands_of_candidates_and_a_huge_threshold_come_to_an_end() {
        let all: BTreeSet<usize> = (0..5000).collect();
        let open = |count| Seats {
            count,
            open_to: all.clone(),
        };
        let last = |at| Seats {
            count: 1,
            open_to: BTreeSet::from([at]),
        };
        assert_eq!(filled(&[open(usize::MAX), last(0), last(1)]), 5000);
        let mut contested = vec![open(100); 20];
        contested.extend((0..50).map(last));
        assert_eq!(filled(&contested), 2050);
    }
}
