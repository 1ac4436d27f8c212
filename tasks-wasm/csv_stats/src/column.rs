//! The statistics of a column.

use std::collections::HashMap;

/// A file.
#[derive(Debug, PartialEq, petiole::Type)]
pub struct Summary {
    pub rows: u64,
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug, PartialEq, petiole::Type)]
pub struct Column {
    pub name: String,
    /// Rows without a value.
    pub missing: u64,
    pub values: Values,
}

/// The values of a column: texts unless all are numbers, nothing if there are none.
#[derive(Debug, PartialEq, petiole::Type)]
pub enum Values {
    Nothing,
    Numbers(Numbers),
    Texts(Texts),
}

/// A column of numbers.
#[derive(Debug, PartialEq, petiole::Type)]
pub struct Numbers {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// The sample standard deviation; 0 for a single value.
    pub deviation: f64,
    pub median: f64,
    /// The first and the third.
    pub quartiles: (f64, f64),
}

/// A column of texts.
#[derive(Debug, PartialEq, petiole::Type)]
pub struct Texts {
    pub distinct: u64,
    /// Characters of the longest one.
    pub longest: u64,
    /// Three at most.
    pub most_frequent: Vec<Count>,
}

/// The number of times that a text appears.
#[derive(Debug, PartialEq, petiole::Type)]
pub struct Count {
    pub text: String,
    pub count: u64,
}

impl Column {
    pub(crate) fn of(name: String, values: &[String]) -> Column {
        let present: Vec<&str> = values
            .iter()
            .map(String::as_str)
            .filter(|value| !value.is_empty())
            .collect();
        let numbers: Option<Vec<f64>> = present.iter().map(|value| number(value)).collect();
        let missing = (values.len() - present.len()) as u64;
        let values = match numbers {
            _ if present.is_empty() => Values::Nothing,
            Some(numbers) => Values::Numbers(Numbers::of(numbers)),
            None => Values::Texts(Texts::of(&present)),
        };
        Column {
            name,
            missing,
            values,
        }
    }
}

/// `NaN` and `inf` are texts, so that every figure is a number in JSON too.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

impl Numbers {
    fn of(mut numbers: Vec<f64>) -> Numbers {
        numbers.sort_by(f64::total_cmp);
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        Numbers {
            min: quantile(&numbers, 0.0),
            max: quantile(&numbers, 1.0),
            mean,
            deviation: if numbers.len() > 1 {
                (squares / (count - 1.0)).sqrt()
            } else {
                0.0
            },
            median: quantile(&numbers, 0.5),
            quartiles: (quantile(&numbers, 0.25), quantile(&numbers, 0.75)),
        }
    }
}

/// Between two values, in proportion: as R's type 7, NumPy and spreadsheets have it.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

impl Texts {
    fn of(texts: &[&str]) -> Texts {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for text in texts {
            *counts.entry(text).or_default() += 1;
        }
        let distinct = counts.len() as u64;
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        Texts {
            distinct,
            longest: texts
                .iter()
                .map(|text| text.chars().count())
                .max()
                .unwrap_or(0) as u64,
            most_frequent: counts
                .into_iter()
                .take(3)
                .map(|(text, count)| Count {
                    text: text.into(),
                    count,
                })
                .collect(),
        }
    }
}
