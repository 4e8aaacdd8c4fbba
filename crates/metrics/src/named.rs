// SPDX-License-Identifier: Apache-2.0

/// The events of one name, of those that have no kind: a backend's, or those of a release to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: Box<str>,
    /// How many there were.
    pub events: u64,
    /// Sum of their values.
    pub sum: u64,
}

impl Named {
    /// The most different names of one agent. Names come from outside, and each is a series for ever: events of names
    /// beyond are dropped, and counted.
    pub const MOST: usize = 64;
    /// The longest name, in bytes.
    pub const LONGEST: usize = 128;

    /// Adds events of a name; returns how many found no room.
    pub(crate) fn add(list: &mut Vec<Self>, name: &str, events: u64, sum: u64) -> u64 {
        if let Some(known) = list.iter_mut().find(|known| *known.name == *name) {
            known.events = known.events.wrapping_add(events);
            known.sum = known.sum.wrapping_add(sum);
            return 0;
        }
        if list.len() == Self::MOST || name.len() > Self::LONGEST {
            return events;
        }
        list.push(Self { name: name.into(), events, sum });
        0
    }

    /// Moves the events of one list into another; returns how many found no room.
    pub(crate) fn move_all(from: &mut Vec<Self>, to: &mut Vec<Self>) -> u64 {
        from.drain(..).map(|Self { name, events, sum }| Self::add(to, &name, events, sum)).sum()
    }

    /// Makes one list the same as another. Allocates for names it has not had yet, and for nothing else.
    pub(crate) fn copy(from: &[Self], to: &mut Vec<Self>) {
        to.truncate(from.len());
        for (at, named) in from.iter().enumerate() {
            match to.get_mut(at) {
                Some(known) if known.name == named.name => (known.events, known.sum) = (named.events, named.sum),
                Some(other) => other.clone_from(named),
                None => to.push(named.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same() {
        let list = |names: &[(&str, u64)]| -> Vec<Named> {
            names.iter().map(|(name, sum)| Named { name: (*name).into(), events: 1, sum: *sum }).collect()
        };
        let mut copy = Vec::new();
        for names in [&[("a", 1)][..], &[("a", 2), ("b", 3)], &[("c", 4), ("b", 3)], &[]] {
            Named::copy(&list(names), &mut copy);
            assert_eq!(copy, list(names));
        }
    }
}
