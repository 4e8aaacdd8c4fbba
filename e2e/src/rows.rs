// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Read as _},
    path::Path,
};

use crate::Totals;

/// A row of the exporter csv, of the columns it has by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// When it was recorded, in microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// The name of the event.
    pub event: &'a str,
    /// Its value.
    pub value: u64,
}

/// Calls `each` with the rows of a CSV file in their order, of which there may be more than memory holds.
///
/// # Panics
/// If the file cannot be read, or is anything else than one header and whole rows.
pub fn read_rows(path: &Path, mut each: impl FnMut(Row<'_>)) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut number) = (String::new(), 0_u64);
    while file.read_line(&mut line).unwrap_or_else(|error| panic!("{}: {error}", path.display())) > 0 {
        number += 1;
        if number == 1 {
            assert_eq!(line, "timestamp_us,category,event_name,value\n", "{}", path.display());
        } else {
            each(row(&line).unwrap_or_else(|| panic!("{}: line {number} is {line:?}", path.display())));
        }
        line.clear();
    }
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.strip_suffix('\n')?.split(',');
    let mut next = || fields.next();
    let (timestamp_us, _category, event, value) = (next()?.parse().ok()?, next()?, next()?, next()?.parse().ok()?);
    next().is_none().then_some(Row { timestamp_us, event, value })
}

/// How many whole lines a CSV file has below its header, whatever is in them; 0 if there is no file.
///
/// # Panics
/// If the file cannot be read.
pub fn count_rows(path: &Path) -> u64 {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let (mut lines, mut buffer) = (0_u64, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            0 => return lines.saturating_sub(1),
            length => lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// What the CSV files of these agents hold, `AGENT.csv` each.
///
/// # Panics
/// As [`read_rows`].
pub fn csv_totals<'a>(folder: &Path, agents: impl IntoIterator<Item = &'a String>) -> Totals {
    let totals = agents.into_iter().map(|agent| {
        // A few names come again and again: looking one up in a map would be most of the work.
        let mut found: Vec<(String, (u64, u64))> = Vec::new();
        read_rows(&folder.join(format!("{agent}.csv")), |row| {
            let place = found.iter().position(|(event, _)| event == row.event).unwrap_or_else(|| {
                found.push((row.event.to_owned(), (0, 0)));
                found.len() - 1
            });
            let (count, sum) = &mut found[place].1;
            (*count, *sum) = (*count + 1, *sum + row.value);
        });
        (agent.clone(), found.into_iter().collect::<BTreeMap<_, _>>())
    });
    totals.collect()
}
