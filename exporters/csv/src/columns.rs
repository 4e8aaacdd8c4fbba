// SPDX-License-Identifier: Apache-2.0

use std::ffi::OsStr;

use nixl_telemetry_sdk::{Dialect, Malformed, Value};

/// One column of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    TimestampUs,
    Category,
    CategoryName,
    EventName,
    Value,
    Unit,
    AgentName,
    Hostname,
    Pid,
}

impl Column {
    const ALL: [(&'static str, Self); 9] = [
        ("timestamp_us", Self::TimestampUs),
        ("category", Self::Category),
        ("category_name", Self::CategoryName),
        ("event_name", Self::EventName),
        ("value", Self::Value),
        ("unit", Self::Unit),
        ("agent_name", Self::AgentName),
        ("hostname", Self::Hostname),
        ("pid", Self::Pid),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// The columns of a file, in order: at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns(pub(crate) Vec<Column>);

impl Value for Columns {
    const TYPE: &'static str = "list";
    const EXPECTED: &'static str = "a comma-separated list of different columns";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        let mut columns = Vec::new();
        for word in text.split(',').map(str::trim) {
            let known = || Column::ALL.map(|(name, _)| name).join(", ");
            let &(_, column) = Column::ALL
                .iter()
                .find(|(name, _)| *name == word)
                .ok_or_else(|| Malformed::expected(format!("columns out of {}, not {word:?}", known())))?;
            if columns.contains(&column) {
                return Err(Malformed::expected(format!("every column once, {word} stands there twice")));
            }
            columns.push(column);
        }
        Ok(Self(columns))
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::Settings;

    use super::*;
    use crate::COLUMNS;

    fn parse(text: &str) -> Result<Vec<&'static str>, String> {
        let found = Settings::from_pairs([(COLUMNS.name(), text)]).get(&COLUMNS);
        found.map(|found| found.value.0.into_iter().map(Column::name).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_choose_columns() {
        for (index, (name, column)) in Column::ALL.into_iter().enumerate() {
            assert_eq!((column as usize, column.name()), (index, name));
            assert_eq!(parse(name), Ok(vec![name]));
        }
        assert_eq!(parse(" value , event_name"), Ok(vec!["value", "event_name"]));
        let default = Settings::empty().get(&COLUMNS).unwrap().value;
        use Column::{Category, EventName, TimestampUs, Value};
        assert_eq!(default.0, [TimestampUs, Category, EventName, Value]);
    }

    #[test]
    fn what_is_no_list_of_columns() {
        let table = [
            ("valu", r#"not "valu""#),
            ("", r#"not """#),
            ("value,", r#"not """#),
            ("VALUE", r#"not "VALUE""#),
            ("value,value", "every column once, value stands there twice"),
        ];
        for (text, complaint) in table {
            let error = parse(text).unwrap_err();
            assert!(error.contains(complaint) && error.contains("NIXL_TELEMETRY_CSV_COLUMNS"), "{error}");
        }
    }
}
