//! Summary statistics of the columns of a CSV file. Pushed as `csv_stats`:
//!
//! ```python
//! csv_stats.summarize.delay("city,people\nBerlin,3.7\nParis,2.1\n").get()
//! # {"rows": 2, "columns": [{"name": "city", "missing": 0, "values": {"texts": {...}}}, ...]}
//! ```

mod column;

use petiole::Error;

use column::{Column, Summary};

/// More columns than this are a file of another kind.
const MAX_COLUMNS: usize = 4_096;

/// Summarizes each column: how much is missing, and of numbers the mean, spread and quartiles, of texts the
/// most frequent ones. The first line names the columns. A column is one of numbers if all its values are.
#[petiole::task]
fn summarize(csv: String, delimiter: Option<char>) -> Result<Summary, Error> {
    let delimiter = delimiter.unwrap_or(',');
    let delimiter = u8::try_from(delimiter).map_err(|_| {
        Error::fail(
            "ValueError",
            format!("the delimiter is {delimiter:?}: take an ASCII character"),
        )
    })?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(csv.as_bytes());
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    if names.len() > MAX_COLUMNS {
        return Err(Error::fail(
            "ValueError",
            format!(
                "the file has {} columns: at most {MAX_COLUMNS}",
                names.len()
            ),
        ));
    }
    let mut values: Vec<Vec<String>> = vec![Vec::new(); names.len()];
    for record in reader.records() {
        for (column, value) in values.iter_mut().zip(&record?) {
            column.push(value.to_owned());
        }
    }
    let rows = values.first().map_or(0, Vec::len) as u64;
    let columns = names
        .into_iter()
        .zip(&values)
        .map(|(name, values)| Column::of(name, values))
        .collect();
    Ok(Summary { rows, columns })
}

#[cfg(test)]
mod tests {
    use super::column::{Count, Numbers, Texts, Values};
    use super::*;

    #[test]
    fn summarizes_numbers_and_texts() {
        let csv = "city; people\nBerlin; 4\nParis; 2\nParis;\nRome; 3\nOslo; 1\n".to_owned();
        let summary = summarize(csv, Some(';')).unwrap();
        assert_eq!(summary.rows, 5);
        let [city, people] = summary.columns.try_into().unwrap();

        assert_eq!((city.name.as_str(), city.missing), ("city", 0));
        let count = |text: &str, count| Count {
            text: text.into(),
            count,
        };
        let most_frequent = vec![count("Paris", 2), count("Berlin", 1), count("Oslo", 1)];
        assert_eq!(
            city.values,
            Values::Texts(Texts {
                distinct: 4,
                longest: 6,
                most_frequent
            })
        );

        assert_eq!((people.name.as_str(), people.missing), ("people", 1));
        let Values::Numbers(Numbers {
            min,
            max,
            mean,
            deviation,
            median,
            quartiles,
        }) = people.values
        else {
            panic!("people are numbers")
        };
        assert_eq!(
            (min, max, mean, median, quartiles),
            (1.0, 4.0, 2.5, 2.5, (1.75, 3.25))
        );
        assert!((deviation - 1.290_994).abs() < 1e-6, "{deviation}");
    }

    #[test]
    fn an_empty_column_has_no_values() {
        let summary = summarize("a,b\n,x\n".into(), None).unwrap();
        assert_eq!(summary.columns[0].values, Values::Nothing);
    }

    #[test]
    fn tells_what_is_wrong_with_a_file() {
        let Err(Error::Fail(failure)) = summarize("a,b\n1,2,3\n".into(), None) else {
            panic!("line 2 is too long")
        };
        assert!(
            failure.exc_message[0].as_str().unwrap().contains("line: 2"),
            "{failure:?}"
        );
        assert!(summarize("a".into(), Some('→')).is_err());
    }
}
