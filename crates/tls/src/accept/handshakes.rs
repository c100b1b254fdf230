//! Who may still be proving who she is: when there are too many, the oldest handshake of the crowd has to go.
//!
//! A peer finishes within a few round trips. So while the place is full, the address with the most unfinished handshakes
//! is the least likely to be a caller: it makes room with its oldest. Peers that stall, however many, keep nobody out, and
//! one address cannot push another one out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The handshakes under way.
#[derive(Debug, Clone)]
pub(super) struct Handshakes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    by_age: BTreeMap<u64, (Origin, CancellationToken)>,
}

/// One of them; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    place: Handshakes,
    number: u64,
    /// Cancelled when it has to go.
    pub(super) expelled: CancellationToken,
}

/// Where a peer comes from: an IPv4 address, or an IPv6 network of 64 bits, of which one host has all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin(u64);

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

impl Handshakes {
    /// Room for `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Inner {
            max,
            state: Mutex::default(),
        }))
    }

    /// One more begins, and another one has to go if there is no room for it.
    pub(super) fn begin(&self, address: IpAddr) -> Handshake {
        let expelled = CancellationToken::new();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state
            .by_age
            .insert(number, (Origin::of(address), expelled.clone()));
        let leaver = if state.by_age.len() > self.0.max {
            state
                .oldest_of_the_crowd()
                .and_then(|oldest| state.by_age.remove(&oldest))
        } else {
            None
        };
        drop(state);
        if let Some((_, token)) = leaver {
            token.cancel();
        }
        Handshake {
            place: self.clone(),
            number,
            expelled,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of the origins with the most handshakes, the one with the oldest: its oldest.
    fn oldest_of_the_crowd(&self) -> Option<u64> {
        let mut crowds: HashMap<Origin, (usize, u64)> = HashMap::new();
        for (number, (origin, _)) in &self.by_age {
            let (size, _oldest) = crowds.entry(*origin).or_insert((0, *number));
            *size += 1;
        }
        let largest = crowds
            .into_values()
            .max_by_key(|(size, oldest)| (*size, std::cmp::Reverse(*oldest)));
        largest.map(|(_, oldest)| oldest)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.place.state().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(place: &Handshakes, address: &str) -> Handshake {
        place.begin(address.parse().unwrap())
    }

    fn gone(handshakes: &[Handshake]) -> Vec<bool> {
        handshakes.iter().map(|one| one.expelled.is_cancelled()).collect()
    }

    #[test]
    fn the_address_with_the_most_makes_room_with_its_oldest() {
        let place = Handshakes::new(4);
        let crowd = ["10.0.0.9", "10.0.0.1", "10.0.0.1", "10.0.0.1"].map(|from| begin(&place, from));
        let _caller = begin(&place, "10.0.0.2");
        assert_eq!(gone(&crowd), [false, true, false, false]);
        let _one_more = begin(&place, "10.0.0.1");
        assert_eq!(
            gone(&crowd),
            [false, true, true, false],
            "it pushes nobody out but itself"
        );
    }

    #[test]
    fn among_equals_the_oldest_makes_room_and_never_the_newest() {
        let place = Handshakes::new(2);
        let (first, second) = (begin(&place, "10.0.0.1"), begin(&place, "10.0.0.2"));
        let third = begin(&place, "10.0.0.3");
        assert_eq!(gone(&[first, second, third]), [true, false, false]);
    }

    #[test]
    fn one_that_has_ended_takes_no_room() {
        let place = Handshakes::new(1);
        drop(begin(&place, "10.0.0.1"));
        let second = begin(&place, "10.0.0.1");
        assert!(!second.expelled.is_cancelled());
        assert_eq!(place.state().by_age.len(), 1);
    }

    #[test]
    fn a_host_with_many_addresses_of_one_network_is_one_crowd() {
        let place = Handshakes::new(3);
        let crowd = ["fd00::9:0:0:0:1", "fd00::1", "fd00::2"].map(|from| begin(&place, from));
        let _caller = begin(&place, "::ffff:10.0.0.2");
        assert_eq!(gone(&crowd), [false, true, false]);
    }
}
