// SPDX-License-Identifier: Apache-2.0

//! What a request is going to move, checked before anything moves.

use super::error::Side;
use super::{Access, Descriptor, DescriptorList, Error, MemoryType, Metadata, Operation};

/// A request's pieces: consecutive bytes on both sides, neighbours merged.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) operation: Operation,
    pub(super) local_type: MemoryType,
    pub(super) remote_type: MemoryType,
    /// Local and remote descriptor of equal length.
    pub(super) pieces: Vec<(Descriptor, Descriptor)>,
    pub(super) bytes: u64,
}

impl Plan {
    /// Checks both lists in order: whether they are lists of anything, whether that is registered, whether one side fits
    /// the other, and whether the destination may be written.
    pub(super) fn new(
        operation: Operation,
        own: &Metadata,
        local: &DescriptorList,
        peer: &Metadata,
        remote: &DescriptorList,
    ) -> Result<Self, Error> {
        let bytes = check_shape(Side::Local, local)?;
        check_shape(Side::Remote, remote)?;
        check_registered(Side::Local, own, local)?;
        check_registered(Side::Remote, peer, remote)?;
        check_fit(local, remote)?;
        match operation {
            Operation::Write => check_writable(Side::Remote, peer, remote)?,
            Operation::Read => check_writable(Side::Local, own, local)?,
        }
        let (source, destination) = match operation {
            Operation::Write => (local, remote),
            Operation::Read => (remote, local),
        };
        check_overlap((own.instance == peer.instance).then_some(source), destination)?;
        let pairs = local.descriptors.iter().copied().zip(remote.descriptors.iter().copied());
        Ok(Self {
            operation,
            local_type: local.memory_type,
            remote_type: remote.memory_type,
            pieces: merge(pairs),
            bytes,
        })
    }
}

/// Returns the sum of the lengths.
fn check_shape(side: Side, list: &DescriptorList) -> Result<u64, Error> {
    if list.descriptors.is_empty() {
        return Err(Error::EmptyList { side });
    }
    let mut sum = 0u64;
    for (index, &Descriptor { offset, length, .. }) in list.descriptors.iter().enumerate() {
        let bad = || Error::BadDescriptor { side, index, offset, length };
        if length == 0 || offset.checked_add(length).is_none() {
            return Err(bad());
        }
        sum = sum.checked_add(length).ok_or_else(bad)?;
    }
    if !matches!(list.memory_type, MemoryType::Dram | MemoryType::File) {
        return Err(Error::Unsupported { memory_type: list.memory_type });
    }
    Ok(sum)
}

fn check_registered(side: Side, agent: &Metadata, list: &DescriptorList) -> Result<(), Error> {
    for (index, one) in list.descriptors.iter().enumerate() {
        let region = agent.region(one.region, list.memory_type)?;
        let end = one.offset + one.length;
        if end > region.length {
            return Err(Error::OutOfBounds { side, index, end, length: region.length });
        }
    }
    Ok(())
}

fn check_fit(local: &DescriptorList, remote: &DescriptorList) -> Result<(), Error> {
    let (local, remote) = (&local.descriptors, &remote.descriptors);
    if local.len() != remote.len() {
        return Err(Error::Counts { local: local.len(), remote: remote.len() });
    }
    match local.iter().zip(remote).position(|(local, remote)| local.length != remote.length) {
        Some(index) => Err(Error::Lengths { index, local: local[index].length, remote: remote[index].length }),
        None => Ok(()),
    }
}

fn check_writable(side: Side, agent: &Metadata, list: &DescriptorList) -> Result<(), Error> {
    for one in &list.descriptors {
        let access = agent.region(one.region, list.memory_type)?.access;
        if access != Access::ReadWrite {
            return Err(Error::ReadOnly { side, region: one.region, access });
        }
    }
    Ok(())
}

/// Nothing may be written twice, nor, if the source is on the same agent, be read and written.
fn check_overlap(source: Option<&DescriptorList>, destination: &DescriptorList) -> Result<(), Error> {
    let tagged = |list: &DescriptorList, written| {
        let each = list.descriptors.iter().enumerate();
        each.map(|(index, one)| (one.region, one.offset, one.offset + one.length, written, index)).collect::<Vec<_>>()
    };
    let mut runs = tagged(destination, true);
    runs.extend(source.into_iter().flat_map(|list| tagged(list, false)));
    runs.sort_unstable();
    // Along a region by offset: the runs that reach furthest so far, of any kind and of those written.
    let (mut reach, mut reach_written) = (None, None);
    for &(region, start, end, written, index) in &runs {
        let before = if written { reach } else { reach_written };
        if let Some((other, until, first)) = before
            && other == region
            && until > start
        {
            return Err(Error::Overlap { first, second: index });
        }
        let further = |reach| match reach {
            Some((other, until, _)) if other == region && until >= end => reach,
            _ => Some((region, end, index)),
        };
        reach = further(reach);
        if written {
            reach_written = further(reach_written);
        }
    }
    Ok(())
}

fn merge(pairs: impl Iterator<Item = (Descriptor, Descriptor)>) -> Vec<(Descriptor, Descriptor)> {
    let follows = |a: &Descriptor, b: &Descriptor| a.region == b.region && a.offset + a.length == b.offset;
    let mut pieces: Vec<(Descriptor, Descriptor)> = Vec::new();
    for (local, remote) in pairs {
        match pieces.last_mut() {
            Some((l, r)) if follows(l, &local) && follows(r, &remote) => {
                l.length += local.length;
                r.length += remote.length;
            }
            _ => pieces.push((local, remote)),
        }
    }
    pieces
}
